import shutil
import socket
import time
from collections import deque

import pytest

from byenatos_sdk.client.core import KernelNotRunning
from byenatos_sdk.client.link import Link
from byenatos_sdk.protocol.frames import Hello, encode


def test_a_missing_socket_is_seen_before_anything_is_sent(home):
    with pytest.raises(KernelNotRunning, match=r"no kernel answers at ipc://.*kernel.sock .*`byenatos up`"):
        Link(home)


def test_a_stale_socket_file_is_seen_at_once(home):
    home.create()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home.socket))
    assert home.socket.exists()
    with pytest.raises(KernelNotRunning, match="Connection refused"):
        Link(home)


def test_something_that_is_no_socket_is_no_kernel(home):
    home.create()
    home.socket.write_text("")
    with pytest.raises(KernelNotRunning):
        Link(home)
    shutil.rmtree(home.run)
    home.run.write_text("")
    with pytest.raises(KernelNotRunning):
        Link(home)


def test_what_a_kernel_said_before_it_ended_can_still_be_read(home, peer):
    link = Link(home)
    peer.script = lambda peer, header, body: peer.say_bytes(b"last words")
    assert link.send(deque([(encode(Hello((1,))), b"")]))
    while (frame := link.receive()) is None:
        link.wait(30)
    peer.say_bytes(b"very last")
    peer.say_bytes(b"words")
    peer.stop()
    deadline = time.monotonic() + 30
    while not link.gone() and time.monotonic() < deadline:
        link.wait(0.01)
    assert frame == b"last words"
    assert [link.receive(), link.receive(), link.receive()] == [b"very last", b"words", None]
    link.close()


def test_a_full_socket_keeps_the_rest_for_later(home):
    """Somebody listens but never speaks ZMTP: nothing leaves, and nothing blocks."""
    home.create()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home.socket))
        silent.listen(8)
        link = Link(home)
        outgoing = deque((b"header", b"body") for _ in range(1500))
        assert not link.send(outgoing)
        assert len(outgoing) == 500
        link.close(linger_ms=0)
        link.close()
