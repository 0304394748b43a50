"""A plugin's real process without a kernel: start it, speak to it frame by frame, look at what it answers.

::

    with DriverProcess(folder) as driver:
        driver.load(settings={"rate": 20})
        deltas = driver.answer(InferenceRequest((user("hello"),)))

The process runs the same runtime on the same kind of channel as under a kernel, but in no sandbox. Packages are found
in the plugin's ``vendor/``; those of a ``requirements.lock`` must be installed where the test runs.
"""

import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec
import zmq

from byenatos_sdk.manifest import read_manifest
from byenatos_sdk.protocol.control import DRIVER_METHODS, LoadOrder
from byenatos_sdk.protocol.errors import error_from_code
from byenatos_sdk.protocol.frames import (
    Beat,
    Drain,
    DriverCall,
    DriverEvent,
    DriverHeader,
    DriverHello,
    Imported,
    Load,
    Ready,
    Reply,
    Start,
    Welcome,
    decode_driver_events,
    encode,
    join_driver_frame,
)
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    ModelSpecification,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from byenatos_sdk.runtime_config import RuntimeConfig, encode_config
from byenatos_sdk.testing.plugin_modules import VENDOR

__all__ = ["DriverProcess", "Heard", "Silence"]

Heard: TypeAlias = TextDelta | DriverEvent
"""What a driver says, a text as the delta that a client would get."""

PATIENCE_S = 30.0
"""How long to wait for anything; a ceiling, not an expectation."""

TOKEN = "handed over once"  # noqa: S105 - guards nothing here

_CHILD = """
import ctypes, mmap, os, sys
from byenatos_sdk.runtime import run
channel, config, arena, size = map(int, sys.argv[1:])
if size:
    shared = mmap.mmap(arena, size)
    os.environ["BYENATOS_ARENA"] = f"{ctypes.addressof(ctypes.c_char.from_buffer(shared)):x}:{size:x}"
run(channel, os.pread(config, 1 << 20, 0))
"""


class Silence(AssertionError):
    """The driver did not say what was waited for; the message carries what it did say and print."""


class DriverProcess:
    """The plugin in ``folder`` in its process, and the kernel's end of its channel.

    Entering the context shakes hands unless ``welcome`` is false; leaving it kills the process. Beats are kept in
    :attr:`beats` and never returned as events. Everything the process prints is in :meth:`output`. :attr:`arena` is the
    memory for warm state that its manifest asks for. For those who want nothing in between, :attr:`socket` is the
    ZeroMQ PAIR itself.
    """

    def __init__(self, folder: Path, *, heartbeat_s: float = 0.1, welcome: bool = True) -> None:
        self.folder = folder
        self.beats: list[Beat] = []
        self.frames = 0
        self.hello: DriverHello | None = None
        self._heartbeat_s = heartbeat_s
        self._welcome = welcome
        self._lines: defaultdict[int, deque[Heard]] = defaultdict(deque)
        self._ids = count(1)
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with self._resources as resources:
            self._open(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def _open(self, resources: ExitStack) -> None:
        home = resources.enter_context(tempfile.TemporaryDirectory(prefix="byenatos-driver-"))
        manifest = read_manifest(self.folder)
        self._printed = Path(home) / "output"
        path = f"{home}/channel"
        config = RuntimeConfig(
            TOKEN,
            manifest.plugin.id,
            manifest.plugin.version,
            str(self.folder),
            manifest.plugin.entry,
            self._heartbeat_s,
            imports=(str(vendor),) if (vendor := self.folder / VENDOR).is_dir() else (),
        )
        listener = resources.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(path)
        listener.listen(1)
        told = os.memfd_create("runtime-config")
        resources.callback(os.close, told)
        os.write(told, encode_config(config))
        size = manifest.permissions.arena_mib << 20
        shared = os.memfd_create("arena")
        resources.callback(os.close, shared)
        os.truncate(shared, size)
        self.arena = memoryview(mmap.mmap(shared, size) if size else b"")
        context = zmq.Context()
        resources.callback(context.destroy, linger=0)
        self.socket = context.socket(zmq.PAIR)
        self.socket.connect(f"ipc://{path}")
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter with the lines above
            [sys.executable, "-I", "-B", "-c", _CHILD, *map(str, (listener.fileno(), told, shared, size))],
            pass_fds=(listener.fileno(), told, shared),
            stdin=subprocess.DEVNULL,
            stdout=resources.enter_context(self._printed.open("wb")),
            stderr=subprocess.STDOUT,
        )
        resources.callback(self._kill)
        event = self.expect(0, DriverHello)
        self.hello = event
        if self._welcome:
            self.send(Welcome(event.majors[0]))

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()

    # ---- speaking ----------------------------------------------------------------------------------------------

    def send(self, header: DriverHeader, body: object = b"") -> None:
        """Send one frame; a ``body`` that is not bytes is encoded."""
        self.send_raw(join_driver_frame(header, body if isinstance(body, bytes) else encode(body)))

    def send_raw(self, frame: bytes) -> None:
        """Send one frame as it is."""
        self.socket.send(frame)

    def load(self, model: str = "model", *, path: Path | None = None, **order: Any) -> ModelSpecification:
        """Load a model and return its specification; ``order`` are further fields of ``LoadOrder``.

        Raises:
            ByenatosError: the driver could not load it.
        """
        self.send(Load(), LoadOrder(model, str(path) if path else "", **order))
        event = self.expect(0, Imported | Failure)
        if isinstance(event, Imported):
            event = self.expect(0, Ready | Failure)
        if isinstance(event, Failure):
            raise error_from_code(event.code, event.message)
        return msgspec.msgpack.decode(event.body, type=ModelSpecification)

    def start(self, request: InferenceRequest, partial: str = "") -> int:
        """Start a stream and return its id."""
        number = next(self._ids)
        self.send(Start(number, partial), request)
        return number

    def answer(self, request: InferenceRequest, partial: str = "") -> list[Heard]:
        """Ask and return the whole answer, its terminal last."""
        return list(self.stream(self.start(request, partial)))

    def call(self, method: str, parameters: object = b"", result: Any = None) -> Any:
        """Call ``embed``, ``count_tokens`` or another of ``control.DRIVER_METHODS`` and return what it returns.

        ``result`` is the type of that for methods which do not stand there (those of ``protocol.warm``).

        Raises:
            ByenatosError: what the driver raises.
        """
        number = -next(self._ids)
        self.send(DriverCall(number, method), parameters)
        body = b""
        while True:
            event = self.expect(number, Reply | Failure)
            if isinstance(event, Failure):
                raise error_from_code(event.code, event.message, retry_after_s=event.retry_after_s)
            body += event.body
            if not event.more:
                return msgspec.msgpack.decode(body, type=result or DRIVER_METHODS[method][1]) if body else None

    def drain(self) -> int:
        """Have the process drained and return its exit status."""
        self.send(Drain())
        return self.status()

    # ---- hearing -----------------------------------------------------------------------------------------------

    def stream(self, id: int) -> Iterator[Heard]:
        """Yield the events of stream ``id`` up to its terminal."""
        kinds = TextDelta | ReasoningDelta | ToolCallDelta | Logprobs | Finish | Failure
        while True:
            event = self.expect(id, kinds)
            yield event
            if isinstance(event, Finish | Failure):
                return

    def expect(self, id: int, kind: Any) -> Any:
        """Return the next event of ``id``, which must be of ``kind``; events of other ids stay in line."""
        line = self._lines[id]
        deadline = time.monotonic() + PATIENCE_S
        while not line:
            self.hear(deadline)
        event = line.popleft()
        if not isinstance(event, kind):
            raise Silence(f"expected {kind} of {id}, found {event}\n{self.output()}")
        return event

    def hear(self, deadline: float | None = None) -> None:
        """Receive one frame and put its events in line, beats left out."""
        until = deadline or time.monotonic() + PATIENCE_S
        while not self.socket.poll(100):
            if self.process.poll() is not None and not self.socket.poll(0):
                raise Silence(f"the driver has left with status {self.process.returncode}\n{self.output()}")
            if time.monotonic() > until:
                raise Silence(f"the driver said nothing more; in line: {self._in_line()!r:.500}\n{self.output()}")
        only_beats = True
        for id, event in decode_driver_events(self.socket.recv()):  # noqa: A001
            if isinstance(event, Beat):
                self.beats.append(event)
            else:
                only_beats = False
                self._lines[id].append(TextDelta(event) if isinstance(event, str) else event)
        self.frames += not only_beats
        if only_beats and time.monotonic() > until:
            raise Silence(f"the driver only beats; in line: {self._in_line()!r:.500}\n{self.output()}")

    def _in_line(self) -> dict[int, list[Heard]]:
        return {id: list(line) for id, line in self._lines.items() if line}  # noqa: A001 - the protocol's word

    def waiting(self, id: int) -> list[Heard]:
        """Take what has been heard of ``id`` and not been asked for out of line."""
        return list(self._lines.pop(id, ()))

    def beat(self, wanted: Callable[[Beat], bool]) -> Beat:
        """Wait for the next beat that is as ``wanted``, beats already heard left out."""
        deadline = time.monotonic() + PATIENCE_S
        heard = len(self.beats)
        while True:
            for beat in self.beats[heard:]:
                if wanted(beat):
                    return beat
            heard = len(self.beats)
            if time.monotonic() > deadline:
                raise Silence(f"no beat as wanted; the last ones: {self.beats[-5:]}\n{self.output()}")
            self.hear(deadline)

    def status(self) -> int:
        """Wait for the process to end and return its exit status, minus the signal that killed it."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Silence(f"the driver did not leave\n{self.output()}") from None

    def close_channel(self) -> None:
        """Close the kernel's end."""
        self.socket.close(linger=0)

    def output(self) -> str:
        """What the process has printed so far, both streams in one."""
        return self._printed.read_text("utf-8", "replace")
