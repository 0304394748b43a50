"""Pulling from a URL: a real HTTP server that can break off in the middle."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from byenatos_kernel.cli.meter import SilentMeter
from byenatos_kernel.cli.pull import pull
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Unavailable

pytest.importorskip("httpx", reason="needs the extra http")

CONTENT = b"GGUF" + bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(ThreadingHTTPServer):
    """Serves ``content`` at /tiny.gguf, with ranges; breaks off or stalls after ``most`` bytes of an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag = '"one"'
        self.ranges: list[str | None] = []
        self.most: int | None = None
        self.stall = False
        self.stalled = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/tiny.gguf?download=true"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        mirror = self.server
        wanted = self.headers.get("Range")
        mirror.ranges.append(wanted)
        if not self.path.startswith("/tiny.gguf"):
            self.send_error(404)
            return
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and self.headers.get("If-Range", mirror.tag) != mirror.tag:
            begin, wanted = 0, None
        if begin >= len(mirror.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(mirror.content)}")
            self.end_headers()
            return
        rest = mirror.content[begin:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(rest)))
        if mirror.tag:
            self.send_header("ETag", mirror.tag)
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{len(mirror.content) - 1}/{len(mirror.content)}")
        self.end_headers()
        self.wfile.write(rest[: mirror.most])
        if mirror.stall:
            mirror.stalled.set()
            mirror.closing.wait(30)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def test_a_file_is_downloaded_and_named_after_the_address(mirror, home):
    pulled = pull(mirror.url, home.models, SilentMeter())
    assert (pulled.model, pulled.sha256) == ("tiny", SHA256)
    assert [path.name for path in home.models.iterdir()] == ["tiny.gguf"]


def test_a_download_that_broke_off_goes_on_where_it_stopped(mirror, home):
    mirror.most = 2_000_000
    with pytest.raises(Unavailable, match="run this again to go on"):
        pull(mirror.url, home.models, SilentMeter())
    mirror.most = None
    assert pull(mirror.url, home.models, SilentMeter()).sha256 == SHA256
    assert mirror.ranges[0] is None
    begin = int(mirror.ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= 2_000_000


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(mirror, home):
    mirror.most = 2_000_000
    with pytest.raises(Unavailable):
        pull(mirror.url, home.models, SilentMeter())
    mirror.most, mirror.tag, mirror.content = None, '"two"', CONTENT[::-1]
    assert pull(mirror.url, home.models, SilentMeter()).sha256 == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_without_a_validator_or_a_hash_nothing_is_resumed(mirror, home):
    mirror.most, mirror.tag = 2_000_000, ""
    with pytest.raises(Unavailable):
        pull(mirror.url, home.models, SilentMeter())
    mirror.most = None
    assert pull(mirror.url, home.models, SilentMeter()).sha256 == SHA256
    assert mirror.ranges == [None, None]


def test_a_part_that_is_whole_already_is_taken(mirror, home):
    mirror.most = 2_000_000
    with pytest.raises(Unavailable):
        pull(mirror.url, home.models, SilentMeter())
    (home.models / ".pull-tiny.gguf" / "model.part").write_bytes(CONTENT)
    assert pull(mirror.url, home.models, SilentMeter()).sha256 == SHA256


def test_a_wrong_hash_is_refused_and_nothing_is_left(mirror, home):
    with pytest.raises(ByenatosError, match="expected a file with SHA-256"):
        pull(mirror.url, home.models, SilentMeter(), sha256="0" * 64)
    assert list(home.models.iterdir()) == []


def test_an_address_that_leads_nowhere_is_told(mirror, home):
    with pytest.raises(NotFound, match="404"):
        pull(mirror.url.replace("tiny", "none"), home.models, SilentMeter())
    assert list(home.models.iterdir()) == []


def test_a_server_that_is_not_there_is_told(home):
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1: the download broke off"):
        pull("http://127.0.0.1:9/tiny.gguf", home.models, SilentMeter())
    assert list(home.models.iterdir()) == []


@pytest.mark.parametrize("url", ["ftp://host/tiny.gguf", "https:///tiny.gguf", "file:///etc/passwd"])
def test_an_address_that_is_not_of_the_web_is_refused(url, home):
    with pytest.raises(InvalidRequest, match="expected an address like"):
        pull(url, home.models, SilentMeter())


def test_ctrl_c_ends_a_pull_without_a_traceback_and_keeps_what_came(mirror, home, start):
    mirror.most, mirror.stall = 3_000_000, True
    process = start("models", "pull", mirror.url)
    assert mirror.stalled.wait(30)
    process.stdout.readline()  # the first line of progress: the download is under way
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in out + error
    assert (home.models / ".pull-tiny.gguf" / "model.part").exists()
