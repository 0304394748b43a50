"""Admissions: how a request becomes a stream, and which unit it means.

From the moment a stream is entered it ends in exactly one terminal: a request that cannot be served is answered too.
The turn of a session is made durable first. While it is written, and while a hibernated session is woken, the stream
WAITs in no queue, and its state is looked at again afterwards: its client may have left.
"""

import asyncio
from collections.abc import Callable, Coroutine

from byenatos_kernel.clients import ClientState
from byenatos_kernel.places import Places
from byenatos_kernel.routes import Routes
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.turns import Turns
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError, Draining, InvalidRequest, Overloaded, Unavailable
from byenatos_sdk.protocol.frames import Open
from byenatos_sdk.protocol.messages import InferenceRequest

__all__ = ["Admissions"]

STREAMS_PER_CLIENT = 1024
CLIENT_BODY_LIMIT = 64 << 20
"""Bytes of the requests of one client that have not ended."""
DEFAULT_TIMEOUT_S = 600.0


class Admissions:
    """Enters new streams into ``live`` and places them. ``requests`` counts since the start.

    While ``closed`` nothing more is taken. Whoever is in ``on_opened`` is told of each stream whose request is complete
    (with a session: all of its turns) and about to be placed. ``fail`` ends a stream, ``spawn`` runs what has to wait.
    """

    def __init__(
        self,
        live: set[Stream],
        places: Places,
        routes: Routes,
        turns: Turns,
        states: SessionStates | None,
        fail: Callable[[Stream, ByenatosError], None],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self.requests = 0
        self.closed = False
        self.on_opened: list[Callable[[Stream], None]] = []
        self._live = live
        self._places = places
        self._routes = routes
        self._turns = turns
        self._states = states
        self._fail = fail
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()

    def open(self, client: ClientState, header: Open, body: bytes) -> None:
        """Accept a request: from here on it ends in exactly one terminal."""
        if header.id in client.streams or header.id in client.calls:
            raise InvalidRequest(f"stream {header.id} is already running on this connection")
        stream = Stream(client, header.id, header.target)
        stream.body = body
        stream.body_bytes = len(body)
        client.body_bytes += stream.body_bytes
        client.streams[header.id] = stream
        self._live.add(stream)
        self.requests += 1
        now = self._loop.time()
        stream.opened_at = stream.progress = now
        stream.deadline = now + (header.timeout_ms / 1000 or DEFAULT_TIMEOUT_S)
        stream.gap_s = header.gap_timeout_ms / 1000
        try:
            if self.closed:
                raise Draining("the kernel is stopping and takes no new requests", retry_after_s=5.0)
            if len(client.streams) > STREAMS_PER_CLIENT:
                raise Overloaded(f"this connection has {STREAMS_PER_CLIENT} streams already; wait for one to end")
            if client.body_bytes > CLIENT_BODY_LIMIT:
                raise Overloaded(
                    f"the running requests of this connection exceed {CLIENT_BODY_LIMIT >> 20} MiB; wait for one to end"
                )
            unit = self._resolve(stream, header.session)
            if not header.timeout_ms and unit.model.timeout_s:
                stream.deadline = now + unit.model.timeout_s
            if header.session is None:
                self._opened(stream)
                self._places.place(stream, unit)
            else:
                self._spawn(self._open_session(stream, self._turns.claim(stream, header.session)))
        except ByenatosError as error:
            self._fail(stream, error)

    async def _open_session(self, stream: Stream, request: InferenceRequest) -> None:
        try:
            await self._turns.begin(stream, request)
            assert stream.session is not None
            await self._routes.homes.settled(stream.session)
            if stream.state is StreamState.WAITING:
                await self._wake(stream, self._resolve(stream, stream.session))
            if stream.state is StreamState.WAITING:
                unit = self._resolve(stream, stream.session)
                self._opened(stream)
                self._places.place(stream, unit)
        except ByenatosError as error:
            if stream.state is StreamState.WAITING:
                self._fail(stream, error)

    def _opened(self, stream: Stream) -> None:
        for told in self.on_opened:
            told(stream)

    async def _wake(self, stream: Stream, unit: Unit) -> None:
        """Bring the state of a hibernated session back before its turn."""
        session = stream.session
        if self._states is not None and session is not None and self._states.asleep(session) and unit.ready is not None:
            await self._states.wake_for_turn(unit.ready, session)

    def _resolve(self, stream: Stream, session: str | None) -> Unit:
        """The unit that a stream's target means, or what serves instead of a slot's model that is not loaded."""
        try:
            unit, stream.slot = self._routes.resolve_turn(stream.target, session)
        except Unavailable:
            instead = self._places.instead(stream.target)
            if instead is None:
                raise
            stream.slot = stream.target
            return instead
        return unit
