"""One connection of a played vendor that speaks HTTP/2: the same scripts, each on a stream of its own."""

import asyncio
from collections.abc import Awaitable, Callable

import h2.config
import h2.connection
import h2.events
from mock_vendor import Script

from byenatos_sdk.formats.wire import WireRequest

__all__ = ["Http2Connection"]


class Http2Connection:
    """Reads requests and plays the script that ``take`` gives for each; ``left`` is called when one is reset."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        take: Callable[[WireRequest], Script],
        left: Callable[[], None],
        released: Callable[[], Awaitable[None]],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._take, self._left, self._released = take, left, released
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._heads: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Event()

    async def serve(self) -> None:
        """Serve until the other side leaves."""
        self._http.initiate_connection()
        self._flush()
        try:
            while data := await self._reader.read(65536):
                for event in self._http.receive_data(data):
                    self._heard(event)
                self._flush()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _flush(self) -> None:
        self._writer.write(self._http.data_to_send())

    def _heard(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._heads[event.stream_id] = dict(event.headers)
            self._bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[event.stream_id] += event.data
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._tasks[event.stream_id] = asyncio.ensure_future(self._answer(event.stream_id))
        elif isinstance(event, h2.events.StreamReset):
            if (task := self._tasks.pop(event.stream_id, None)) is not None:
                task.cancel()
            self._left()
        elif isinstance(event, h2.events.WindowUpdated):
            self._room.set()

    async def _answer(self, stream: int) -> None:
        head = self._heads.pop(stream)
        headers = {name: value for name, value in head.items() if not name.startswith(":")}
        headers.setdefault("host", head[":authority"])
        script = self._take(WireRequest(head[":path"], self._bodies.pop(stream), headers, head[":method"]))
        if script.status:
            self._http.send_headers(stream, [(":status", str(script.status)), *script.headers.items()])
        for piece in script.pieces:
            await self._send(stream, piece)
        if script.ending == "end":
            self._http.end_stream(stream)
        elif script.ending == "stall":
            self._flush()
            await asyncio.Event().wait()
        else:
            self._flush()
            if script.ending == "reset" and script.pieces:
                await self._released()
            self._http.reset_stream(stream, 2)
        self._flush()

    async def _send(self, stream: int, data: bytes) -> None:
        while data:
            room = min(self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size)
            if room <= 0:
                self._room.clear()
                self._flush()
                await self._room.wait()
                continue
            self._http.send_data(stream, data[:room])
            data = data[room:]
        self._flush()
        await self._writer.drain()
