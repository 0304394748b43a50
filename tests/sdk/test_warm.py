"""Warm state at the driver's end: the arena's bounds, and the calls that reach a driver with its memory filled in."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "system" / "harness"))

from abacus import WIDTH, Abacus

from byenatos_sdk.protocol import warm
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unsupported
from byenatos_sdk.protocol.messages import InferenceRequest, user
from byenatos_sdk.runtime.warm import WarmCalls
from byenatos_sdk.warm import Arena, State, WarmState

SIZE = 4096


@pytest.fixture
def memory():
    return bytearray(SIZE)


@pytest.fixture
def calls(memory):
    return WarmCalls(Abacus({}), Arena(memoryview(memory)), LoadOrder("m", max_tokens=7), continues=True)


def call(calls, method, order=None):
    return asyncio.run(calls.call(method, msgspec.msgpack.encode(order) if order is not None else b""))


@pytest.mark.parametrize(("offset", "size"), [(0, SIZE + 1), (SIZE, 1), (-1, 1), (0, -1), (1 << 62, 1 << 62)])
def test_no_view_goes_beyond_the_arena(memory, offset, size):
    with pytest.raises(InvalidRequest):
        Arena(memoryview(memory)).view(offset, size)


def test_a_process_without_an_arena_finds_none(monkeypatch):
    monkeypatch.delenv("BYENATOS_ARENA", raising=False)
    assert Arena.inherited() is None


def test_an_export_goes_where_it_was_told_to_and_a_restore_comes_from_there(calls, memory):
    call(calls, "prefill", warm.Prefill("talk", ()))
    calls._driver._restored["talk"] = 3
    piece = msgspec.msgpack.decode(call(calls, "export", warm.Export("talk", 1, 640, 1280)), type=warm.Piece)
    assert (piece.start, piece.stop, piece.size) == (1, 3, 2 * WIDTH)
    assert memory[640:645] == b"1:   "
    assert not any(memory[:640])
    call(calls, "release", warm.Subject("talk"))
    calls._driver._restored["talk"] = 1
    call(calls, "restore", warm.Restore("talk", (warm.Placed(1, 3, 640, 2 * WIDTH),)))
    holdings = msgspec.msgpack.decode(call(calls, "holdings"), type=list[warm.Holding])
    assert holdings == [warm.Holding("talk", 3, 3 * WIDTH)]


def test_what_is_read_ahead_is_the_request_as_an_answer_would_see_it(calls, monkeypatch):
    seen = []

    async def read(request):
        seen.append(request)
        return 2

    monkeypatch.setattr(calls._driver, "read", read)
    order = warm.Read(InferenceRequest((user("count"),)), "0 1 ")
    assert msgspec.msgpack.decode(call(calls, "read", order), type=warm.Reached) == warm.Reached(2)
    [request] = seen
    assert (request.partial, request.continued, request.sampling.max_tokens) == ("0 1 ", 4, 7)


def test_a_driver_that_reads_nothing_ahead_says_so(calls):
    with pytest.raises(Unsupported, match="Abacus reads no requests ahead"):
        asyncio.run(WarmState.read(calls._driver, InferenceRequest((user("count"),))))


@pytest.mark.parametrize(
    ("method", "order", "error"),
    [
        ("export", warm.Export("nobody", 0, 0, 100), NotFound),
        ("export", warm.Export("nobody", 0, 4000, 100), InvalidRequest),
        ("freeze", warm.Export("talk", 0, 0, 100), InvalidRequest),
        ("thaw", warm.Subject("talk"), InvalidRequest),
        ("thaw", warm.Subject(5), NotFound),
        ("reach", warm.Reach(5, 1), NotFound),
        ("restore", warm.Restore(5, (warm.Placed(0, 1, SIZE, WIDTH),)), InvalidRequest),
        ("restore", warm.Restore(5, (warm.Placed(0, 1, 0, WIDTH),)), InvalidRequest),
        ("export", warm.Subject(5), InvalidRequest),
    ],
)
def test_what_cannot_be_done_is_an_error_with_a_code(calls, method, order, error):
    with pytest.raises(error):
        call(calls, method, order)


def test_a_driver_that_returns_something_else_is_told_what_was_expected(calls, monkeypatch):
    async def nonsense(*_):
        return "all of it"

    monkeypatch.setattr(calls._driver, "export", nonsense)
    with pytest.raises(TypeError, match="to return a Piece"):
        call(calls, "export", warm.Export("talk", 0, 0, 100))


def test_states_are_views_of_the_arena_and_no_copies(calls, memory):
    [state] = calls._states((warm.Placed(0, 1, 64, 5),))
    memory[64:69] = b"later"
    assert isinstance(state, State)
    assert bytes(state.data) == b"later"
