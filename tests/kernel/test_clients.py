"""A client's window, and what its next frame holds."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from byenatos_kernel.clients import FRAME_BYTES, WINDOW_BYTES, WINDOW_FRAMES, ClientState
from byenatos_kernel.streams import JOIN_EVERY, Stream
from byenatos_sdk.protocol.frames import Reply
from byenatos_sdk.protocol.messages import TextDelta


@pytest.fixture
def client() -> ClientState:
    return ClientState("uid:0", 0)


def add(client: ClientState, number: int, text: str) -> Stream:
    stream = client.streams.setdefault(number, Stream(client, number, "default"))
    stream.pending.append(text)
    stream.lag += len(text)
    client.lag += len(text)
    if not stream.dirty:
        stream.dirty = True
        client.dirty.append(stream)
    return stream


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("sent"), st.integers(0, 4 << 20)),
            st.tuples(st.just("acknowledge"), st.integers(-(2**63), 2**64 - 1)),
            st.tuples(st.just("acknowledge"), st.integers(0, 3)),
        ),
        max_size=60,
    )
)
def test_the_window_counts_what_is_on_its_way_whatever_is_acknowledged(steps):
    client = ClientState("uid:0", 0)
    model: list[int] = []
    for what, value in steps:
        getattr(client, what)(value)
        if what == "sent":
            model.append(value)
        else:
            del model[: max(value, 0)]
        assert list(client.in_flight) == model
        assert client.in_flight_bytes == sum(model)
        assert client.open is (len(model) < WINDOW_FRAMES and sum(model) < WINDOW_BYTES)


def test_a_window_full_of_frames_opens_with_the_first_acknowledgement(client):
    for _ in range(WINDOW_FRAMES):
        assert client.open
        client.sent(1)
    assert not client.open
    client.acknowledge(1)
    assert client.open


def test_control_answers_come_before_text(client):
    add(client, 1, "text")
    client.control.append((9, Reply(b"answer")))
    assert client.next_frame() == [(9, Reply(b"answer"))]
    assert client.next_frame() == [(1, TextDelta("text"))]
    assert client.next_frame() == []


def test_a_frame_ends_once_it_is_large_and_the_rest_follows_in_order(client):
    for number in range(4):
        add(client, number, "x" * (FRAME_BYTES // 2 + 1))
    assert [number for number, _ in client.next_frame()] == [0, 1]
    assert [number for number, _ in client.next_frame()] == [2, 3]
    assert client.lag == 0


def test_the_tokens_of_a_paused_stream_are_joined_though_each_comes_in_a_frame_of_its_own(client):
    for _ in range(20 * JOIN_EVERY):
        add(client, 1, "x").paused = True
        assert client.next_frame() == []
    stream = client.streams[1]
    assert len(stream.pending) + len(stream.events) <= 2 * JOIN_EVERY
    stream.paused = False
    assert add(client, 1, "!") is stream
    assert client.next_frame() == [(1, TextDelta("x" * 20 * JOIN_EVERY + "!"))]
