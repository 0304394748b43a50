"""The launching side of template processes: starting them, ordering from them, keeping one warm.

``one-shot``: a template makes one sandbox and ends. Each sandbox then has an address layout and a hash seed of its own,
as after an ``exec``, and none can find in its memory what is true of another. A few are kept warm, because starting an
interpreter takes ten times as long as cloning one; when none is warm, the order waits for a cold one. ``shared``: all
sandboxes come from one template, which saves its memory and its start, and shares its layout among code that is trusted
not to mind.
"""

import asyncio
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import msgspec

from byenatos_sandbox import descriptors
from byenatos_sandbox.births import Births
from byenatos_sandbox.channel import refuse_descriptors
from byenatos_sandbox.template import Answer, Order

__all__ = ["Template", "Templates"]

_FIRST_WORDS = """
import ctypes
ctypes.CDLL(None).prctl(1, 9)
import importlib.util, sys
sys.modules.update(dict.fromkeys(("ssl", "bz2", "lzma")))
found = importlib.util.find_spec("byenatos_sandbox")
sys.modules[found.name] = importlib.util.module_from_spec(found)
from byenatos_sandbox.template import main
main(sys.argv[1:])
"""
"""The parent-death signal comes before the imports: until it is set, a parent that dies leaves an orphan behind. What
asyncio and shutil would load and nothing in a sandbox needs, TLS above all, is kept out while they are imported: 4 MB.
Of this package the modules are there and its ``__init__`` is not run: it would load the launching side.
"""

_REFILL_S = 0.1
"""A launch has the processors for itself first: starting an interpreter takes one of them for 60 ms."""

_CONTROL, _PAGE = 3, 4
_WARM = 1
_LARGEST = 4096

Answered = Callable[[Answer], None]


class Template:
    """One template process, a child of this one; start it in the main thread, with a running event loop.

    Raises:
        OSError: it cannot be started; nothing is left of the attempt.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Answered, bool]] = deque()
        self._answered = 0  # the process id in the last answer
        with ExitStack() as undo, ExitStack() as its_ends:
            page = Births.create()
            its_ends.callback(os.close, page)
            self._births = Births(page)
            undo.callback(self._births.close)
            self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._control.close)
            its_ends.callback(its.close)
            self.pid = _spawn(its.fileno(), page, preload)
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise
            undo.pop_all()
        self._control.setblocking(False)
        refuse_descriptors(self._control)
        self._loop.add_reader(self._control, self._heard)
        self._loop.add_reader(self._pidfd, self._ended)

    @property
    def alive(self) -> bool:
        """Whether it can be ordered from."""
        return self._pidfd >= 0 and self._control.fileno() >= 0

    def order(self, order: Order, given: Sequence[int], answered: Answered) -> None:
        """Have a process made with the ``given`` descriptors (setup socket, stdin, stdout, stderr).

        ``answered`` is called once, whatever happens: later, in the event loop, or by :meth:`close` before it returns.
        A template that becomes the process itself (``plain``) is left to whoever is answered.

        Raises:
            OSError: the order cannot be sent.
        """
        descriptors.send(self._control, msgspec.msgpack.encode(order), given)
        self._waiting.append((answered, order.plain))

    def close(self) -> None:
        """End it; idempotent. What was made from it lives on, but what nobody was told of yet."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            if self._waiting:  # what it has made by now is known once it is gone: an instant
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
                while self._waiting and self._control.fileno() >= 0:
                    self._heard()
        self._hang_up("its template was closed")

    def reap(self) -> None:
        """Wait for the end of a template that was closed: an instant."""
        if self._pidfd >= 0:
            self._ended()

    def _heard(self) -> None:
        try:
            data = self._control.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or not self._waiting:
            self._hang_up("its template ended; why stands on this program's standard error")
            return
        answered, handed_over = self._waiting.popleft()
        answer = msgspec.msgpack.decode(data, type=Answer)
        self._answered = answer.pid
        if handed_over and answer.pid:
            self._let_go()
        answered(answer)

    def _hang_up(self, reason: str) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
            self._control.close()
        made = self._births.last if self._waiting else 0
        if made not in {0, self._answered}:  # it was killed between the clone and its answer
            os.kill(made, signal.SIGKILL)  # a child that was not reaped: the number is its own
            self._waiting.popleft()[0](Answer(made, reason))
        while self._waiting:
            self._waiting.popleft()[0](Answer(0, reason))
        self._births.close()

    def _ended(self) -> None:
        self._let_go()
        os.waitpid(self.pid, 0)

    def _let_go(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1


def _spawn(control: int, page: int, preload: Sequence[str]) -> int:
    # -I: nothing is imported from the working directory or the user's site folder; -B: nothing is written beside the
    # driver's code; -u: the last line before a crash is not lost in a buffer
    command = [sys.executable, "-I", "-B", "-u", "-c", _FIRST_WORDS, str(_CONTROL), str(_PAGE), *preload]
    return os.posix_spawn(
        sys.executable,
        command,
        {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, control, _CONTROL),
            (os.POSIX_SPAWN_DUP2, page, _PAGE),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD],
    )


class Templates:
    """Keeps templates at hand. Make it in the main thread, inside the event loop; :meth:`close` it at the end."""

    def __init__(self, preload: Sequence[str] = (), *, warm: int = _WARM) -> None:
        self._preload = tuple(preload)
        self._most = warm
        self._warm: deque[Template] = deque()
        self._shared: Template | None = None
        self._loop = asyncio.get_running_loop()
        self._refill: asyncio.Handle | None = None
        self._closed = False

    def start(self) -> None:
        """Warm up; returns at once."""
        self._fill()

    def take(self) -> Template:
        """A template that nobody has used; the caller orders once from it and closes it.

        Raises:
            OSError: none can be started.
        """
        while self._warm:
            template = self._warm.popleft()
            if template.alive:
                break
        else:
            template = Template(self._preload)
        if self._refill is None and not self._closed:
            self._refill = self._loop.call_later(_REFILL_S, self._fill)
        return template

    def shared(self) -> Template:
        """The template that all share.

        Raises:
            OSError: it cannot be started.
        """
        if self._shared is None or not self._shared.alive:
            self._shared = Template(self._preload)
        return self._shared

    def close(self) -> None:
        """End all templates and wait until they are gone, an instant; idempotent."""
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
        for template in (*self._warm, *([self._shared] if self._shared else [])):
            template.close()
            template.reap()
        self._warm.clear()
        self._shared = None

    def _fill(self) -> None:
        self._refill = None
        with suppress(OSError):  # the next launch will say what is wrong
            while len(self._warm) < self._most:
                self._warm.append(Template(self._preload))
