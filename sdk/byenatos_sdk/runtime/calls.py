"""The kernel's calls of a driver's methods: each has one reply, in pieces if it is long, or one failure."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from byenatos_sdk.driver import Driver
from byenatos_sdk.protocol.control import DRIVER_METHODS, LoadOrder
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, RequestTooLarge
from byenatos_sdk.protocol.frames import MAX_REPLY, UNREADABLE, DriverCall, DriverEvent, Reply
from byenatos_sdk.runtime.plugin import checked, failing_to, import_driver
from byenatos_sdk.runtime.warm import WarmCalls
from byenatos_sdk.runtime_config import RuntimeConfig

__all__ = ["DriverCalls"]

REPLY_PIECE = 512 << 10
"""Bytes of the longest piece of a reply: a frame to the kernel holds one and the rest of what an event needs."""

_decoders = {name: msgspec.msgpack.Decoder(parameters) for name, (parameters, _) in DRIVER_METHODS.items()}


class DriverCalls:
    """The calls that run. ``loaded`` returns the driver and its order, or raises; ``warm`` has the calls for state."""

    def __init__(
        self,
        config: RuntimeConfig,
        put: Callable[[int, DriverEvent], None],
        spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        loaded: Callable[[], tuple[Driver, LoadOrder]],
    ) -> None:
        self.warm: WarmCalls | None = None
        self._config = config
        self._put = put
        self._spawn = spawn
        self._loaded = loaded
        self._running: dict[int, asyncio.Task[None]] = {}

    def stop(self, id: int) -> bool:
        """Give a call up that nobody waits for any longer; return whether there was one."""
        task = self._running.pop(id, None)
        if task is not None:
            task.cancel()
        return task is not None

    def begin(self, call: DriverCall, body: bytes) -> None:
        """Carry out a call; whatever comes of it is put under its number."""
        task = self._running[call.id] = self._spawn(self._call(call, body))
        task.add_done_callback(lambda _: self._running.pop(call.id, None))

    async def _call(self, call: DriverCall, body: bytes) -> None:
        with failing_to(lambda failure: self._put(call.id, failure)):
            if self.warm is not None and call.method in self.warm.methods:
                self._loaded()
                self._put(call.id, Reply(await self.warm.call(call.method, body)))
                return
            if call.method not in DRIVER_METHODS:
                raise NotFound(f"expected one of the methods {', '.join(DRIVER_METHODS)}, found {call.method!r:.200}")
            try:
                parameters = _decoders[call.method].decode(body) if body else None
            except UNREADABLE as error:
                raise InvalidRequest(f"{call.method}: expected other parameters: {error}") from None
            result, source = await self._result(call.method, parameters)
            reply = checked(result, DRIVER_METHODS[call.method][1], source)
            if len(reply) > MAX_REPLY:
                raise RequestTooLarge(
                    f"{call.method}: expected a result of at most {MAX_REPLY >> 20} MiB, found {len(reply) >> 20} MiB; "
                    "ask for less at once"
                )
            while len(reply) > REPLY_PIECE:
                self._put(call.id, Reply(reply[:REPLY_PIECE], more=True))
                reply = reply[REPLY_PIECE:]
            self._put(call.id, Reply(reply))

    async def _result(self, method: str, parameters: Any) -> tuple[object, str]:
        """Call the driver's method; return what it gave, and the method's name for the author."""
        if method == "probe":
            kind = import_driver(self._config)
            return kind.probe(Path(parameters.path), parameters.settings), f"{kind.__name__}.probe"
        driver, _ = self._loaded()
        function = getattr(driver, method)
        found = await (function() if method in {"health", "models"} else function(parameters))
        return found, f"{type(driver).__name__}.{method}"
