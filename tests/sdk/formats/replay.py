"""A vendor's server that says what it is told, for the vendors' own clients: a real HTTP/1.1 server on a real socket.

A test queues answers; each request takes the next one and is kept. Bodies given in pieces go out as HTTP chunks, one
write each, so that a client reads them as they were cut.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from byenatos_sdk.formats.wire import WireRequest, WireResponse

__all__ = ["Answer", "Replay", "replaying"]


class Answer(NamedTuple):
    """What one request gets. ``abort``: the connection is dropped where the body would end."""

    body: bytes | Sequence[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    abort: bool = False


class Replay:
    """The server: its address, what it was asked, and what it will answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[WireRequest] = []
        self._answers: deque[Answer] = deque()

    def answer(self, *answers: Answer | WireResponse) -> None:
        """Queue answers, one for each request to come."""
        for one in answers:
            whole = isinstance(one, WireResponse)
            self._answers.append(Answer(one.body, one.status, one.headers) if whole else one)

    def stream(self, *pieces: bytes, content_type: str = "text/event-stream", abort: bool = False) -> None:
        """Queue a stream of ``pieces``."""
        self._answers.append(Answer(pieces, headers={"content-type": content_type}, abort=abort))

    def take(self, request: WireRequest) -> Answer:
        """Note ``request`` and return its answer."""
        self.requests.append(request)
        if not self._answers:
            return Answer(b"the test queued no answer for this request", 500)
        return self._answers.popleft()

    def clear(self) -> None:
        """Forget the requests and the answers that nobody took."""
        self.requests.clear()
        self._answers.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            body = b"".join(self._chunks())
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.replay.take(WireRequest(self.path, body, headers, self.command))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        whole = isinstance(answer.body, bytes)
        if whole and not answer.abort:
            self.send_header("content-length", str(len(answer.body)))
        else:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (answer.body,) if whole else answer.body:
            if whole and not answer.abort:
                self.wfile.write(piece)
            elif piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if answer.abort:
            self.close_connection = True
        elif not whole:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_DELETE = do_POST  # noqa: N815  # names that http.server calls

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the test's assertions do."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    replay: Replay

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no error of the server."""


@contextmanager
def replaying() -> Iterator[Replay]:
    """Run a server on a free port of this machine until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.replay = Replay(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.replay
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
