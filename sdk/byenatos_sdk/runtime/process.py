"""The life of a driver process: shake hands, load the model, answer, drain, leave.

Everything here runs on one event loop in the main thread; the heartbeat has a thread of its own and an engine may have
one. What must stay true:

- Whatever the kernel sends, this process answers, ignores with a line on stderr, or leaves: it never ends in a
  traceback of its own.
- Every stream that was started and not stopped ends in exactly one terminal, unless the process dies.
- stdout and stderr carry no protocol. The runtime prints errors only.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec

from byenatos_sdk import files
from byenatos_sdk.driver import Driver, Model
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.errors import Draining, InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.frames import (
    Drain,
    DriverCall,
    DriverHello,
    Imported,
    Load,
    Ready,
    Refused,
    Resume,
    Start,
    Stop,
    Welcome,
    decode_request,
    split_driver_frame,
)
from byenatos_sdk.protocol.messages import Failure
from byenatos_sdk.protocol.versions import DRIVER_FEATURES, MAJORS
from byenatos_sdk.protocol.zmtp import Violation
from byenatos_sdk.runtime.background import background_load
from byenatos_sdk.runtime.calls import DriverCalls
from byenatos_sdk.runtime.channel import Channel
from byenatos_sdk.runtime.continued import ContinuedStream
from byenatos_sdk.runtime.heartbeat import Heartbeat
from byenatos_sdk.runtime.plugin import failing_to, import_driver
from byenatos_sdk.runtime.pump import Pump
from byenatos_sdk.runtime.request import asked_to_continue, complete
from byenatos_sdk.runtime.specification import described
from byenatos_sdk.runtime.stream import Stream
from byenatos_sdk.runtime.template import preloaded
from byenatos_sdk.runtime.warm import WarmCalls
from byenatos_sdk.runtime_config import RuntimeConfig, decode_config
from byenatos_sdk.warm import Arena, WarmState

__all__ = ["run"]

LINGER_S = 2.0
"""How long the last frames may take to leave."""

_decode_order = msgspec.msgpack.Decoder(LoadOrder).decode

FAILED, REFUSED = 1, 3
"""Exit statuses: the model could not be loaded or the kernel is gone; the kernel refused this process."""


def run(channel_fd: int, config: bytes) -> None:
    """Run the driver that ``config`` (a ``RuntimeConfig``) names, over the inherited listening socket ``channel_fd``.

    Returns when the kernel has had the process drained, or after SIGTERM.

    Raises:
        SystemExit: with status 1 if the model could not be loaded or the kernel closed the channel, 3 if the kernel
            refused the process; the reason stands on stderr.
    """
    order = decode_config(config)
    files.grant(order.files)
    try:
        channel = Channel(channel_fd)
    except (OSError, Violation) as error:
        _complain(f"expected the kernel at the inherited descriptor {channel_fd}: {error}")
        raise SystemExit(FAILED) from None
    try:
        status = asyncio.run(_Process(channel, order).live())
    finally:
        channel.close()
    if status:
        raise SystemExit(status)


class _Process:
    """The runtime's state: the driver once it is started, its streams, and how the process is to end."""

    def __init__(self, channel: Channel, config: RuntimeConfig) -> None:
        self._channel = channel
        self._config = config
        self._order: LoadOrder | None = None
        self._driver: Driver | None = None
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None
        self._draining = False

    async def live(self) -> int:
        """Live until the end and return the exit status."""
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[int] = self._loop.create_future()
        self._pump = Pump(self._channel, self._accept, self._has_room, self._abandoned)
        self._put = self._pump.outbox.put
        self._calls = DriverCalls(self._config, self._put, self._spawn, self._loaded)
        self._loop.add_signal_handler(signal.SIGTERM, self._leave, 0)
        config = self._config
        hello = DriverHello(
            config.token, MAJORS, tuple(sorted(DRIVER_FEATURES)), config.driver, config.version, os.getpid()
        )
        self._put(0, hello)
        self._pump.start()
        status = await self._end
        await self._shut_down()
        return status

    # ---- frames from the kernel --------------------------------------------------------------------------------

    def _accept(self, frame: bytes) -> None:
        try:
            header, body = split_driver_frame(frame)
        except ValueError as error:
            _complain(f"a frame of {len(frame)} bytes from the kernel is ignored: {error}")
            return
        match header:
            case Start():
                self._start(header, body)
            case Resume():
                self._resume(header, body)
            case Stop():
                self._stop(header.id)
            case DriverCall():
                self._calls.begin(header, bytes(body))
            case Load():
                self._load(bytes(body))
            case Drain():
                self._drain()
            case Welcome():
                self._welcome()
            case Refused():
                _complain(f"the kernel refused this driver: {header.reason}")
                self._leave(REFUSED)

    def _welcome(self) -> None:
        if self._heartbeat is None:
            self._heartbeat = Heartbeat(self._channel, self._streams, self._config.heartbeat_s)
            self._heartbeat.start()

    # ---- loading -----------------------------------------------------------------------------------------------

    def _load(self, body: bytes) -> None:
        if self._order is not None:
            _complain("a second Load from the kernel is ignored: one process loads one model")
            return
        try:
            self._order = _decode_order(body)
        except ValueError as error:
            self._fail_load(Failure("invalid_request", f"expected a LoadOrder, found a body that is none: {error}"))
            return
        self._spawn(self._start_driver(self._order))

    async def _start_driver(self, order: LoadOrder) -> None:
        config = self._config
        who, doing = (
            (f"front {config.driver!r}", "start")
            if config.sockets
            else (f"driver {config.driver!r}", f"load {order.model!r}")
        )
        with failing_to(self._fail_load, f"{who} cannot be imported"):
            kind = import_driver(config)
            self._put(0, Imported())
            self._pump.flush()  # before the driver has the loop, perhaps for minutes
            with failing_to(self._fail_load, f"{who} cannot {doing}"):
                driver = kind(order.settings)
                path = Path(order.path) if order.path else None
                model = Model(
                    order.model,
                    path,
                    order.settings,
                    digest=order.digest,
                    preloaded=preloaded(order),
                    files=order.files,
                )
                with background_load(self._loop) if order.background else nullcontext():
                    specification = await driver.start(model)
                arena = Arena.inherited()
                if isinstance(driver, WarmState) and arena is not None:
                    self._calls.warm = WarmCalls(driver, arena, order, continues=driver.continues)
                warm = self._calls.warm is not None
                body = described(driver, order, specification, name=config.driver, warm=warm)
                self._driver = driver
                self._put(0, Ready(body))

    def _fail_load(self, failure: Failure) -> None:
        self._put(0, failure)
        self._leave(FAILED)

    # ---- streams -----------------------------------------------------------------------------------------------

    def _start(self, header: Start, body: memoryview) -> None:
        def serve(stream: Stream, driver: Driver) -> None:
            if not driver.serve(stream):
                stream.task = self._spawn(self._answer(driver, stream))

        self._begin(header.id, header.partial, body, serve)

    def _resume(self, header: Resume, body: memoryview) -> None:
        def resume(stream: Stream, _: Driver) -> None:
            if self._calls.warm is None:
                raise NotFound("expected a driver with warm state, found one without")
            self._calls.warm.resume(stream, header)

        self._begin(header.id, header.partial, body, resume)

    def _begin(self, id: int, partial: str, body: memoryview, serve: Callable[[Stream, Driver], None]) -> None:
        """Make a stream and have it served; whatever goes wrong is its terminal."""

        def fail(failure: Failure) -> None:
            if stream is None:
                self._put(id, failure)
            else:
                stream.emit(failure)

        stream: Stream | None = None
        with failing_to(fail):
            driver, order = self._loaded()
            if self._draining:
                raise Draining(f"driver {self._config.driver!r} is draining and takes no new request")
            try:
                request = decode_request(body)
            except ValueError as error:
                raise InvalidRequest(f"expected an InferenceRequest: {error}") from None
            if id in self._streams:
                raise InvalidRequest(f"expected an id that is not running, found {id}")
            request = complete(request, partial, order, continues=driver.continues)
            before = asked_to_continue(request)
            if before:
                stream = ContinuedStream(id, request, self._pump, self._ended, before)
            else:
                stream = Stream(id, request, self._pump, self._ended)
            self._streams[id] = stream
            serve(stream, driver)

    def _loaded(self) -> tuple[Driver, LoadOrder]:
        if self._driver is None or self._order is None:
            raise Unavailable(f"driver {self._config.driver!r} has not loaded its model yet; send requests after Ready")
        return self._driver, self._order

    async def _answer(self, driver: Driver, stream: Stream) -> None:
        try:
            with failing_to(stream.emit):
                await stream.answer(driver.infer(stream.request))
        except asyncio.CancelledError:
            if stream.cancelled:
                raise
            stream.emit(Failure("internal", f"{type(driver).__name__}.infer was cancelled by its own code"))

    def _stop(self, id: int) -> None:
        if self._calls.stop(id):
            return
        stream = self._streams.pop(id, None)
        if stream is not None:  # else it ended while this order was under way
            stream.cancel()
            self._look_if_drained()

    def _ended(self, id: int) -> None:
        """A stream put its terminal, perhaps in an engine's thread."""
        self._streams.pop(id, None)
        if self._draining:
            self._loop.call_soon_threadsafe(self._look_if_drained)

    def _has_room(self) -> None:
        if self._driver is not None:
            with failing_to(lambda failure: _complain(failure.message), f"{type(self._driver).__name__}.uncongested"):
                self._driver.uncongested()

    # ---- the end -----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._draining = True
        if self._driver is None:
            self._leave(0)
        else:
            self._look_if_drained()

    def _look_if_drained(self) -> None:
        if self._draining and not self._streams and not self._tasks:
            self._leave(0)

    def _abandoned(self, reason: str) -> None:
        _complain(f"the kernel {reason}: leaving")
        self._leave(FAILED)

    def _leave(self, status: int) -> None:
        if not self._end.done():
            self._end.set_result(status)

    async def _shut_down(self) -> None:
        """Cancel what still runs, stop the driver, send what is left to say."""
        self._draining = True
        for stream in list(self._streams.values()):
            stream.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._driver is not None:
            with failing_to(lambda failure: _complain(failure.message), "the driver could not be stopped"):
                await self._driver.stop()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._pump.flush()
        if not self._channel.lost:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pump.room(), LINGER_S)
        self._pump.stop()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._look_if_drained()


def _complain(sentence: str) -> None:
    sys.stderr.write(f"runtime: {sentence}\n")
