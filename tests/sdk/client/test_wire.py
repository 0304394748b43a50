"""The connection that a front is handed: what comes is taken in order and without asking an empty socket twice."""

import socket
from collections import deque

import pytest

from byenatos_sdk.client import wire
from byenatos_sdk.client.wire import WireLink
from byenatos_sdk.protocol.zmtp import frame_head, opening


class Counting:
    """A socket that counts how often it was read from."""

    def __init__(self, real):
        self.real = real
        self.reads = 0

    def __getattr__(self, name):
        return getattr(self.real, name)

    def recv(self, size):
        self.reads += 1
        return self.real.recv(size)


@pytest.fixture
def ends():
    """A link, the socket under it, and the other end, whose handshake is sent."""
    ours, theirs = socket.socketpair()
    theirs.sendall(opening(b"ROUTER"))
    counting = Counting(ours)
    link = WireLink(counting)
    assert link.receive() is None
    counting.reads = 0
    yield link, counting, theirs
    link.close()
    theirs.close()


def framed(*frames):
    return b"".join(frame_head(len(frame)) + frame for frame in frames)


def taken(link):
    return list(iter(link.receive, None))


def test_frames_that_come_together_cost_one_read(ends):
    link, counting, theirs = ends
    theirs.sendall(framed(b"one", b"two", b"x" * 300))
    assert taken(link) == [b"one", b"two", b"x" * 300]
    assert counting.reads == 1


def test_a_frame_that_is_cut_waits_for_its_rest(ends):
    link, _, theirs = ends
    whole = framed(b"y" * 1000)
    theirs.sendall(whole[:500])
    assert taken(link) == []
    theirs.sendall(whole[500:] + framed(b"next"))
    assert taken(link) == [b"y" * 1000, b"next"]


def test_what_one_read_does_not_hold_is_read_to_its_end(ends, monkeypatch):
    link, counting, theirs = ends
    monkeypatch.setattr(wire, "READ_BYTES", 64)
    sent = framed(b"z" * 100, b"z" * 100)
    theirs.sendall(sent)
    assert taken(link) == [b"z" * 100] * 2
    assert counting.reads == len(sent) // 64 + 1


def test_the_end_is_believed_after_everything_that_came_before_it(ends):
    link, _, theirs = ends
    theirs.sendall(framed(b"last"))
    theirs.close()
    assert not link.gone()
    assert taken(link) == [b"last"]
    assert taken(link) == []
    assert link.gone()


def test_what_is_sent_together_leaves_in_one_piece(ends):
    link, _, theirs = ends
    outgoing = deque([(b"header", b"body"), (b"only", b"")])
    assert link.send(outgoing)
    assert not outgoing
    assert theirs.recv(1 << 16).endswith(b"\x01\x06header\x00\x04body\x01\x04only\x00\x00")
