"""A vendor over real TLS, scripted by the test: HTTP/1.1 by h11 or raw bytes, HTTP/2 by h2."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h11
import trustme

HOST = "api.vendor.test"
AUTHORITY = trustme.CA()


_ORDINARY = (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, h11.ProtocolError)
"""How a connection ends that its other side, or the test, is done with."""


class Call:
    """One request that came to the vendor, and how it is answered."""

    def __init__(self, vendor, head, body, writer, http):
        self.vendor = vendor
        self.method = head.method.decode()
        self.target = head.target.decode()
        self.headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        self.body = body
        self.writer = writer
        self._http = http

    async def answer(self, status=200, headers=(), body=b""):
        headers = [*headers, ("content-length", str(len(body)))]
        self.writer.write(self._http.send(h11.Response(status_code=status, headers=headers)))
        self.writer.write(self._http.send(h11.Data(data=body)) + self._http.send(h11.EndOfMessage()))
        await self.writer.drain()

    async def begin(self, headers=(("content-type", "text/event-stream"),)):
        headers = [*headers, ("transfer-encoding", "chunked")]
        self.writer.write(self._http.send(h11.Response(status_code=200, headers=headers)))
        await self.writer.drain()

    async def piece(self, data):
        self.writer.write(self._http.send(h11.Data(data=data)))
        await self.writer.drain()

    async def end(self):
        self.writer.write(self._http.send(h11.EndOfMessage()))
        await self.writer.drain()


async def echo(call):
    """Says what it was asked, headers and all, as a vendor's error does."""
    told = {"method": call.method, "target": call.target, "headers": call.headers, "body": call.body.decode("latin-1")}
    await call.answer(headers=[("content-type", "application/json")], body=json.dumps(told).encode())


class Vendor:
    """Listens on a port of 127.0.0.1. ``calls`` are the requests that came, ``connections`` counts."""

    def __init__(self, handler: Callable[[Call], Awaitable[None]] = echo, *, http2=False, names=(HOST,), plain=False):
        self.handler = handler
        self.calls: list[Call] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.raw: Callable | None = None
        self._plain = plain
        self._http2 = http2
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(*names).configure_cert(self._context)
        self._context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
        self._tasks = set()
        self._writers = []

    async def __aenter__(self):
        context = None if self._plain else self._context
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(4):  # turns of the loop in which TLS and then its socket are let go
            await asyncio.sleep(0)

    async def _accept(self, reader, writer):
        self.connections += 1
        self._writers.append(writer)
        self._tasks.add(asyncio.current_task())
        try:
            with suppress(*_ORDINARY):
                if self.raw is not None:
                    await self.raw(reader, writer)
                elif self._http2:
                    await Http2Vendor(self, reader, writer).serve()
                else:
                    await self._serve(reader, writer)
        finally:
            self.gone.set()
            self._tasks.discard(asyncio.current_task())
            if not writer.is_closing():  # twice breaks TLS of Python 3.11.2
                writer.close()

    async def _serve(self, reader, writer):
        http = h11.Connection(h11.SERVER)
        while True:
            head, body = None, b""
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await reader.read(65536)
                    http.receive_data(data)
                    if not data and head is None:
                        return
                elif isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return
            call = Call(self, head, body, writer, http)
            self.calls.append(call)
            answering = asyncio.ensure_future(self.handler(call))
            leaving = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    self.gone.set()
                    return
                await answering
            finally:
                answering.cancel()
                leaving.cancel()
                await asyncio.gather(answering, leaving, return_exceptions=True)
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()


class Http2Vendor:
    """The same for one connection of HTTP/2: ``/slow`` never ends, ``/count`` streams, the rest is an echo."""

    def __init__(self, vendor, reader, writer):
        self.vendor, self.reader, self.writer = vendor, reader, writer
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.bodies = {}
        self.heads = {}
        self.resets = vendor.__dict__.setdefault("resets", [])
        self.opened = asyncio.Event()

    def flush(self):
        self.writer.write(self.http.data_to_send())

    async def serve(self):
        self.http.initiate_connection()
        self.flush()
        tasks = set()
        while data := await self.reader.read(65536):
            for event in self.http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.heads[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                elif isinstance(event, h2.events.DataReceived):
                    self.bodies[event.stream_id] += event.data
                    self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    tasks.add(asyncio.ensure_future(self.answer(event.stream_id)))
                elif isinstance(event, h2.events.StreamReset):
                    self.resets.append(event.stream_id)
                    self.vendor.gone.set()
                elif isinstance(event, h2.events.WindowUpdated):
                    self.opened.set()
            self.flush()
        for task in tasks:
            task.cancel()

    async def answer(self, stream):
        head = self.heads[stream]
        self.http.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        if head[":path"].startswith("/v1/slow"):
            self.http.send_data(stream, b"begun\n")
            self.flush()
            return
        if head[":path"].startswith("/v1/count"):
            text = b"x" * int(head[":path"].rpartition("/")[2])
        else:
            told = {"headers": head, "body": self.bodies[stream].decode("latin-1")}
            text = json.dumps(told).encode()
        while text:
            room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
            if not room:
                self.opened.clear()
                self.flush()
                await self.opened.wait()
                continue
            self.http.send_data(stream, text[:room])
            text = text[room:]
        self.http.end_stream(stream)
        self.flush()
        await self.writer.drain()
