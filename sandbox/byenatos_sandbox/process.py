"""One supervised process: how it comes to be, its channel, its output, its death.

A process is *ordered* from a template, then it is *made* (its process id is known), then it is *locked in* (it has
reported, and the look from outside agrees), and only then told to go on to foreign code. Until the end of its life it
is in this one object, and whatever goes wrong on the way ends as an exit with a ``fault``.

Invariants:

- The child is reaped in one place, :meth:`Process._ended`, and nowhere before: as long as it is not reaped its pid, and
  with it the number of its process group, cannot be given to anybody else, so a signal always reaches the right group.
  An instance of a sandboxed template is no child of this process: it is signalled by its pidfd only.
- Its group is killed before it is reaped: what it forked inside its group does not outlive it. What an instance forked
  (its template may have betrayed its filter) ends with the template.
- ``exited`` resolves exactly once, always, whatever closed or failed before.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from byenatos_sandbox import descriptors
from byenatos_sandbox.attestation import contradictions
from byenatos_sandbox.capture import OutputCapture
from byenatos_sandbox.cgroup import Group
from byenatos_sandbox.child import CANNOT_START, GO, HERE
from byenatos_sandbox.exits import Exit
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.guard import Guard
from byenatos_sandbox.isolation import NotIsolated
from byenatos_sandbox.layers import KINDS
from byenatos_sandbox.leftovers import remove_leftovers
from byenatos_sandbox.outlet import Outlet
from byenatos_sandbox.output import printable
from byenatos_sandbox.pidfd import reap
from byenatos_sandbox.spec import Report
from byenatos_sandbox.template import Answer
from byenatos_sandbox.templates import Template

__all__ = ["Process"]

_LONGEST = 1000
_LAST_WORDS_S = 1.0


class Process:
    """A sandboxed process, made by :func:`~byenatos_sandbox.launch`. Use it in the thread of its event loop only.

    ``pid`` and ``pidfd`` are 0 and -1 until it is made. ``channel`` is our non-blocking end of the one socket.
    ``layers`` says of each layer whether it is on, ``open`` which kinds of isolation are not there once it is locked
    in, with what got through; ``refusal`` says which of them are required, if it was killed for that. ``guard`` listens
    to its calls. Nothing is released before :meth:`close`, so that what the process still sent can be read after its
    end.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        template: Template | None,
        setup: socket.socket,
        channel: socket.socket,
        capture: OutputCapture,
        scratch: Path,
        group: Group | None,
        layers: Mapping[str, str],
        dial: Callable[[], socket.socket] | None,
        on_exit: Callable[["Process"], None] | None,
    ) -> None:
        self.name = grant.name
        self.pid = 0
        self.pidfd = -1
        self.channel = channel
        self.layers = dict(layers)
        self.open: Mapping[str, str] = {}
        self.refusal: NotIsolated | None = None
        self._grant = grant
        self._template = template
        self._own = template is not None
        self._setup = setup
        outlet = Outlet(dial) if dial is not None and grant.egress_socket else None
        self.guard = Guard(outlet, egress_socket=grant.egress_socket)
        self._forked_from: Process | None = None
        self._capture = capture
        self._scratch = scratch
        self._group = group
        self._on_exit = on_exit
        self._fault = ""
        self._doomed = 0  # the signal that it gets as soon as it is made
        self._asked_to_end = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        setup.setblocking(False)

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Resolves when the process is gone and reaped and its group killed. Cancelling it harms nothing."""
        # a future of the caller's own: a `wait_for` that runs out cancels what it waits for
        return asyncio.shield(self._exit)

    @property
    def lacking(self) -> dict[str, str]:
        """The layers that it does not have, each with the reason."""
        return {name: state for name, state in self.layers.items() if state != "on"}

    def output(self) -> tuple[str, ...]:
        """Return the last lines of stdout and stderr, printable and redacted."""
        return self._capture.show()

    def stopped(self) -> bool:
        """Say whether the process is stopped (SIGSTOP and the like) right now. Cheap; meant for SIGCHLD."""
        if self._exit.done() or self.pidfd < 0:
            return False
        try:
            # WNOWAIT: look without taking, so that the answer is a state and not an event; without WEXITED nothing is
            # reaped here
            state = os.waitid(os.P_PIDFD, self.pidfd, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # it has just ended; the pidfd is about to say so
            return False
        return state is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; nothing happens if it is gone, or not there yet."""
        if not self._exit.done() and self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """Kill the whole process group at once; nothing happens if it is gone."""
        self._signal_group(signal.SIGKILL)

    def condemn(self, fault: str) -> None:
        """Kill it for a reason, in words that fit behind its name, which its exit then tells."""
        self._fault = self._fault or fault
        if self._setup.fileno() >= 0:
            self._loop.remove_reader(self._setup)
            self._setup.close()
        self.kill()

    async def stop(self, grace_s: float | None = None) -> Exit:
        """Ask the group to end (SIGTERM), kill it after ``grace_s`` (the grant's, if ``None``), return how it ended.

        May be called again, and while another call waits; the shortest grace wins.
        """
        self._asked_to_end = True
        self._signal_group(signal.SIGTERM)
        await asyncio.wait({self._exit}, timeout=self._grant.stop_grace_s if grace_s is None else grace_s)
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
            self._close_pidfd()

    # ---- coming to be ------------------------------------------------------------------------------------------

    def made(self, answer: Answer) -> None:
        """The template has answered the order."""
        if self._template is not None and self._grant.template == "one-shot":
            self._template.close()
        if answer.pid and self._own:
            try:
                self.pidfd = os.pidfd_open(answer.pid)
            except OSError as error:
                os.kill(answer.pid, signal.SIGKILL)  # a child that was not reaped: the number is its own
                os.waitpid(answer.pid, 0)
                answer = Answer(0, f"it cannot be watched: {error}")
        if answer.failure:
            self._fault = self._fault or f"could not be started: {answer.failure}"
        if not answer.pid:
            self._give_up(self._fault)
            return
        self.pid = answer.pid
        self._loop.add_reader(self.pidfd, self._ended)
        self._loop.add_reader(self._setup, self._locked_in)
        if self._doomed:
            self._signal_group(self._doomed)

    def expect_introduction(self, template: "Process") -> None:
        """Wait for an instance of a sandboxed template to say that it is there; the system says which process it is.

        Neither is trusted: the template's library may have changed both at will.
        """
        self._loop.add_reader(self._setup, self._introduced, template)

    def _introduced(self, template: "Process") -> None:
        self._loop.remove_reader(self._setup)
        try:
            pid, self.pidfd = descriptors.receive_introduction(self._setup, HERE)
        except OSError:
            # a template at its end closes its descriptors first; why it ended, it has said by the time it is gone
            template.exited.add_done_callback(lambda end: self._orphaned(template, end.result()))
            self._loop.call_later(
                _LAST_WORDS_S, self._give_up, "could not be started: its sandboxed template did not make it"
            )
            return
        descriptors.take_none(self._setup)
        if self.guard.outlet is not None:
            self._forked_from = template
            template.guard.outlets[pid] = self.guard.outlet  # its calls are told to the template's listener
        self.made(Answer(pid))

    def _orphaned(self, template: "Process", end: Exit) -> None:
        said = "".join(f": {line}" for line in template.output()[-1:])
        self._give_up(f"could not be started: its sandboxed template {end.describe()}{said}")

    def _give_up(self, fault: str) -> None:
        """Nothing came of it, or nothing that is known."""
        if self._exit.done():
            return
        self._fault = self._fault or fault
        if self._setup.fileno() >= 0:
            self._loop.remove_reader(self._setup)
        self._finish(Exit(CANNOT_START, None, self._fault))

    def _locked_in(self) -> None:
        """The process has reported on its setup socket, or closed it."""
        self._loop.remove_reader(self._setup)
        report = self._reported()
        if report is None:
            return  # it has ended, and its end is on its way
        self.open = {kind: _quoted(report.open[kind]) for kind in KINDS if kind in report.open}
        wrong = [_quoted(report.failure)] if report.failure else []
        wanted = {name for name, state in self.layers.items() if state == "on"}
        wrong += contradictions(self.pid, wanted, first=self._own)
        if wrong:
            self.condemn(f"was not let in: {'; '.join(wrong)}")
            return
        if lacking := {kind: what for kind, what in self.open.items() if kind in self._grant.required}:
            self.refusal = NotIsolated.of(self.name, lacking)
            self.condemn(NotIsolated.reason(lacking))
            return
        with suppress(OSError):  # it is gone
            self._setup.send(GO)
        self._setup.close()

    def _reported(self) -> Report | None:
        """Take the report, if there is one to be taken; one of a failure is the fault that the process ends with."""
        try:
            data, received = descriptors.receive(self._setup)
        except OSError:
            return None
        for descriptor in received:
            if self._own:
                self.guard.watch(descriptor, self.condemn)
            else:
                os.close(descriptor)
        if not data:
            return None
        try:
            report = Report.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            report = Report(failure="it reported what cannot be read")
        if report.failure:
            self._fault = self._fault or f"could not be isolated: {_quoted(report.failure)}"
        return report

    # ---- the end -----------------------------------------------------------------------------------------------

    def _signal_group(self, number: int) -> None:
        if self._exit.done():
            return
        if self.pidfd < 0:
            self._doomed = number
            if not self._own and number == signal.SIGKILL:
                self._loop.call_soon(self._give_up, "was given up before it was there")
            return
        if not self._own:  # it may have been reaped, and its number be another's
            self.signal(number)
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has not made its own group yet
            self.signal(number)

    def _ended(self) -> None:
        """The pidfd became readable: the process is dead and not yet reaped."""
        self._loop.remove_reader(self.pidfd)
        self._signal_group(signal.SIGKILL)
        if self._setup.fileno() >= 0:
            self._loop.remove_reader(self._setup)
            self._reported()  # it may say why it ended
        self.guard.close()
        status, number = reap(self.pidfd)
        if status == signal.SIGTERM and self._asked_to_end and self.layers.get("pid-namespace") == "on":
            status, number = None, int(signal.SIGTERM)  # how process 1 of a namespace follows it (`child.py`)
        self._finish(Exit(status, number, self._fault))

    def _finish(self, end: Exit) -> None:
        self._capture.drain()
        self._capture.close()
        self._setup.close()
        if self._template is not None:
            if self._grant.template == "one-shot":
                self._template.reap()
            self._template = None
        if self._forked_from is not None:
            self._forked_from.guard.outlets.pop(self.pid, None)
            self._forked_from = None
        self._exit.set_result(end)
        if self._closed:
            self._close_pidfd()
        if self._on_exit is not None:
            self._on_exit(self)
        remove_leftovers(self._scratch, self._group)  # takes milliseconds: whoever waits for the end has heard of it

    def _close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _quoted(text: str) -> str:
    """What a process says, so that it can do no harm where it is shown."""
    return printable(text[:_LONGEST].encode("utf-8", "replace"))
