"""How a process ended, in figures and in words."""

import signal

from msgspec import Struct

__all__ = ["Exit"]


class Exit(Struct, frozen=True):
    """How a process ended: by itself with a ``status``, or by a ``signal``; ``fault`` says what led to it, if known."""

    status: int | None
    signal: int | None
    fault: str = ""

    def describe(self) -> str:
        """Say it in words that fit behind the process's name."""
        if self.fault:
            return self.fault
        if self.signal is None:
            return "ended" if self.status is None else f"exited with status {self.status}"
        if self.signal == signal.SIGSYS:
            return "was killed by SIGSYS (it made a system call that a sandbox forbids)"
        try:
            return f"was killed by {signal.Signals(self.signal).name}"
        except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has no name
            return f"was killed by signal {self.signal}"
