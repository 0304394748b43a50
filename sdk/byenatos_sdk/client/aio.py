"""The client for asyncio: a thin shell over the core.

A client belongs to the event loop that connected it. A stream is left by ``async with``, by ``aclose()``, or by
dropping it: the kernel is then told to stop.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack
from uuid import uuid4

from msgspec import Struct

from byenatos_sdk.client.aio_calls import AsyncCalls
from byenatos_sdk.client.aio_streams import AsyncEvents, AsyncStream, Pump
from byenatos_sdk.client.link import Link
from byenatos_sdk.client.replies import check_welcome, news_in, result_in
from byenatos_sdk.client.request import Options, Prompt, build_request
from byenatos_sdk.client.wire import WireLink
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import Empty, Event, SessionTranscript
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import InferenceResponse

__all__ = ["AsyncClient", "AsyncSession"]

_Result = TypeVar("_Result")


class AsyncSession:
    """A conversation that the kernel keeps under :attr:`id`: every turn is put before the next one."""

    def __init__(self, client: "AsyncClient", id: str, slot: str) -> None:
        self._client = client
        self.id = id
        self.slot = slot

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Start the next turn; see :meth:`AsyncClient.stream`."""
        options.setdefault("model", self.slot)
        options["session"] = self.id
        return self._client.stream(prompt, **options)

    async def infer(self, prompt: Prompt, **options: Unpack[Options]) -> InferenceResponse:
        """Take the next turn and return its whole answer."""
        async with self.stream(prompt, **options) as stream:
            return await stream.response()

    async def transcript(self) -> SessionTranscript:
        """Return every turn that the kernel has stored."""
        return await self._client.transcript(self.id)


class AsyncClient(AsyncCalls):
    """A client of the kernel of one home, for use in one event loop, inside ``async with``.

    After the kernel went away a client is of no more use: every method raises ``Unavailable`` and says so. Streams are
    never silently started again; open a new client.
    """

    def __init__(
        self, home: str | Path | Home | None = None, *, name: str = "", connect_timeout_s: float = 5.0
    ) -> None:
        self._home = home if isinstance(home, Home) else Home(home)
        self._name = name
        self._connect_timeout_s = connect_timeout_s
        self._pump: Pump | None = None
        self._handed_over: socket.socket | None = None

    @classmethod
    def over(cls, connected: socket.socket, *, name: str = "") -> Self:
        """Return a client that speaks over ``connected``, and closes it: for processes that may connect to nothing."""
        client = cls(name=name)
        client._handed_over = connected
        return client

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and greet the kernel; ``async with`` does it.

        Raises:
            KernelNotRunning: if no kernel answers there.
            Unavailable: if it refuses this client.
        """
        if self._pump is not None:
            raise RuntimeError("expected a client that was never connected; make a new AsyncClient")
        link = Link(self._home) if self._handed_over is None else WireLink(self._handed_over)
        self._pump = pump = Pump(link)
        try:
            greeting = pump.connection.hello(self._name)
            pump.flush()
            event = None
            with suppress(TimeoutError):
                event = await pump.next(greeting, asyncio.get_running_loop().time() + self._connect_timeout_s)
            check_welcome(event, link.endpoint, self._connect_timeout_s)
        except BaseException:
            pump.hang_up("this client never connected; make a new one")
            raise

    async def close(self) -> None:
        """Leave: what still runs ends in ``Cancelled`` here and is cancelled at the kernel."""
        if self._pump is not None:
            await self._pump.close()

    # ---- inference ---------------------------------------------------------------------------------------------

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Start an answer and return the stream of its deltas.

        ::

            async with client.stream("Why is the sky blue?", max_tokens=200) as stream:
                async for delta in stream:
                    ...

        Leaving early (``break`` out of the block, an exception, ``aclose()``, dropping the stream) cancels it.

        Raises:
            InvalidRequest: if a time limit is not positive or the request is too large.
            Unavailable: if the client is not connected or the kernel went away.
            Overloaded: if thousands of requests already wait to be sent.
        """
        pump = self._connected()
        request = build_request(prompt, options)
        return AsyncStream(pump, pump.stream(request), request.timeout_s)

    async def infer(self, prompt: Prompt, **options: Unpack[Options]) -> InferenceResponse:
        """Return the whole answer; raises the error that the stream ended with. Cancelling the task cancels it."""
        async with self.stream(prompt, **options) as stream:
            return await stream.response()

    def session(self, id: str | None = None, *, slot: str = "default") -> AsyncSession:
        """Return a conversation: the one called ``id``, or a new one. The kernel stores it with its first turn."""
        return AsyncSession(self, id or uuid4().hex[:12], slot)

    def events(self) -> AsyncEvents:
        """Follow what happens in the kernel from now on; leaving the iterator ends it."""
        pump = self._connected()
        return AsyncEvents(pump, pump.call("events", Empty()))

    async def shutdown(self) -> None:
        """Drain and stop the kernel. Returns when it has agreed or is gone."""
        pump = self._connected()
        try:
            await self._call("shutdown", Empty(), Empty)
        except Unavailable:
            if pump.connection.loss is None:
                raise

    # ---- inside ------------------------------------------------------------------------------------------------

    def _connected(self) -> Pump:
        if self._pump is None:
            raise Unavailable("expected a client that is connected; use `async with AsyncClient() as client`")
        return self._pump

    async def _call(
        self, method: str, parameters: Struct, result: type[_Result], on_news: Callable[[Event], None] | None = None
    ) -> _Result:
        pump = self._connected()
        inbox = pump.call(method, parameters)
        try:
            while (news := news_in(event := await pump.next(inbox))) is not None:
                if on_news is not None:
                    on_news(news)
            return result_in(event, result)
        finally:
            pump.leave(inbox)
