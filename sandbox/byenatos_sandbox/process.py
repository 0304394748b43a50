"""One supervised process: its channel, its output, its death.

Invariants:

- The child is reaped in one place, :meth:`Process._ended`, and nowhere before: as long as it is not reaped its pid, and
  with it the number of its process group, cannot be given to anybody else, so a signal always reaches the right group.
- Its group is killed before it is reaped: what it forked inside its group does not outlive it.
- ``exited`` resolves exactly once, always, whatever closed or failed before.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from byenatos_sandbox.capture import OutputCapture
from byenatos_sandbox.grant import Grant

__all__ = ["Exit", "Process"]


class Exit(Struct, frozen=True):
    """How a process ended: by itself with a ``status``, or by a ``signal``."""

    status: int | None
    signal: int | None

    def describe(self) -> str:
        """Say it in words that fit behind the process's name."""
        if self.signal is None:
            return f"exited with status {self.status}"
        if self.signal == signal.SIGSYS:
            return "was killed by SIGSYS (it made a system call that a sandbox forbids)"
        try:
            return f"was killed by {signal.Signals(self.signal).name}"
        except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has no name
            return f"was killed by signal {self.signal}"


class Process:
    """A sandboxed process, made by :func:`~byenatos_sandbox.launch`. Use it in the thread of its event loop only.

    ``channel`` is our non-blocking end of the one socket; ``layers`` says which isolation is on. Nothing is released
    before :meth:`close`, so that what the process still sent can be read after its end.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        child: "subprocess.Popen[bytes]",
        pidfd: int,
        channel: socket.socket,
        capture: OutputCapture,
        scratch: Path,
        layers: Mapping[str, str],
        on_exit: Callable[["Process"], None] | None,
    ) -> None:
        self.name = grant.name
        self.pid = child.pid
        self.pidfd = pidfd
        self.channel = channel
        self.layers = dict(layers)
        self._grace_s = grant.stop_grace_s
        self._child = child
        self._capture = capture
        self._scratch = scratch
        self._on_exit = on_exit
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._ended)

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Resolves when the process is gone and reaped and its group killed. Cancelling it harms nothing."""
        # a future of the caller's own: a `wait_for` that runs out cancels what it waits for
        return asyncio.shield(self._exit)

    def output(self) -> tuple[str, ...]:
        """Return the last lines of stdout and stderr, printable and redacted."""
        return self._capture.show()

    def stopped(self) -> bool:
        """Say whether the process is stopped (SIGSTOP and the like) right now. Cheap; meant for SIGCHLD."""
        if self._exit.done():
            return False
        try:
            # WNOWAIT: look without taking, so that the answer is a state and not an event; without WEXITED nothing is
            # reaped here
            state = os.waitid(os.P_PIDFD, self.pidfd, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # it has just ended; the pidfd is about to say so
            return False
        return state is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; nothing happens if it is gone."""
        if not self._exit.done():
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """Kill the whole process group at once; nothing happens if it is gone."""
        self._signal_group(signal.SIGKILL)

    async def stop(self, grace_s: float | None = None) -> Exit:
        """Ask the group to end (SIGTERM), kill it after ``grace_s`` (the grant's, if ``None``), return how it ended.

        May be called again, and while another call waits; the shortest grace wins.
        """
        self._signal_group(signal.SIGTERM)
        await asyncio.wait({self._exit}, timeout=self._grace_s if grace_s is None else grace_s)
        self.kill()
        return await self.exited

    def close(self) -> None:
        """Release the descriptors; idempotent. A process that still runs is killed first.

        Its end is then still noticed by the event loop, which must go on turning until ``exited`` resolves.
        """
        if self._closed:
            return
        self._closed = True
        self.kill()  # before its channel closes, which many take for a wish to leave in peace
        self.channel.close()
        self._capture.close()
        if self._exit.done():
            os.close(self.pidfd)

    def _signal_group(self, number: int) -> None:
        if not self._exit.done():
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def _ended(self) -> None:
        """The pidfd became readable: the process is dead and not yet reaped."""
        self._loop.remove_reader(self.pidfd)
        self._signal_group(signal.SIGKILL)
        self._capture.drain()
        self._capture.close()
        code = self._child.wait()
        self._exit.set_result(Exit(status=None, signal=-code) if code < 0 else Exit(status=code, signal=None))
        if self._closed:
            os.close(self.pidfd)
        _remove(self._scratch)
        if self._on_exit is not None:
            self._on_exit(self)


def _remove(folder: Path) -> None:
    """Remove a scratch folder; one that the process filled with files is emptied in a thread, however long it takes."""
    try:
        folder.rmdir()
    except OSError:
        threading.Thread(
            target=shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, name="byenatos-scratch"
        ).start()
