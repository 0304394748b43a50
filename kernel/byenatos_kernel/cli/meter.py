"""How far a long step is: a bar on a terminal, a line per tenth in a pipe, nothing for programs."""

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from byenatos_kernel.cli.screen import is_terminal, megabytes, say

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["LineMeter", "Meter", "SilentMeter", "choose_meter"]


class Meter(Protocol):
    """Shows steps of a known number of bytes (0: not known), one after the other."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the screen as a reader expects it."""

    def begin(self, label: str, total_bytes: int) -> None:
        """Start the next step."""

    def reach(self, done_bytes: int) -> None:
        """Say how far the step is."""


class SilentMeter:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def begin(self, label: str, total_bytes: int) -> None:
        """Ignore the step."""

    def reach(self, done_bytes: int) -> None:
        """Ignore the progress."""


class LineMeter(SilentMeter):
    """Prints a line whenever another tenth is done, and at least the first and the last."""

    def __init__(self) -> None:
        self._label = ""
        self._total_bytes = 0
        self._printed_tenth = -1

    def begin(self, label: str, total_bytes: int) -> None:
        """Start the next step."""
        self._label, self._total_bytes, self._printed_tenth = label, total_bytes, -1
        if not total_bytes:
            say(f"{label}: size not known")

    def reach(self, done_bytes: int) -> None:
        """Print a line if another tenth is done."""
        if not self._total_bytes:
            return
        tenth = min(10, 10 * done_bytes // self._total_bytes)
        if tenth > self._printed_tenth:
            self._printed_tenth = tenth
            say(f"{self._label}: {tenth * 10} % of {megabytes(self._total_bytes)}")


class BarMeter:
    """Draws a bar per step."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, label: str, total_bytes: int) -> None:
        """Start the next bar."""
        self._task = self._progress.add_task(label, total=total_bytes or None)

    def reach(self, done_bytes: int) -> None:
        """Draw the bar as far as the step is."""
        if self._task is not None:
            self._progress.update(self._task, completed=done_bytes)


def choose_meter(*, machine: bool) -> Meter:
    """Return the meter for who is reading: a program, a person, or a file."""
    if machine:
        return SilentMeter()
    return BarMeter() if is_terminal() else LineMeter()
