"""The egress socket from both sides: what a driver may do by it, and who answers."""

import asyncio
import contextlib
import errno
import json
import socket

import pytest

from byenatos_sandbox import LaunchError, launch
from byenatos_sandbox.layers import missing
from byenatos_sandbox.outlet import A_SECOND, AT_ONCE, MOST_WAITING, Outlet
from byenatos_sandbox.seccomp import EGRESS_SOCKET
from byenatos_sdk.egress import SOCKET

pytestmark = pytest.mark.skipif("seccomp" in missing(), reason="this machine does not filter system calls")


class Dialled:
    """Hands out streams whose other ends answer with what they are sent, in capitals."""

    def __init__(self):
        self.count = 0
        self.error = None
        self._tasks = set()

    def __call__(self):
        if self.error is not None:
            raise self.error
        self.count += 1
        ours, its = socket.socketpair()
        task = asyncio.ensure_future(self._answer(ours))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return its

    async def _answer(self, ours):
        reader, writer = await asyncio.open_connection(sock=ours)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1024):
                writer.write(data.upper())
        writer.close()


def ask(grant, talk, orders, dialled=None, **fields):
    async def scenario():
        dial = dialled or Dialled()
        process = launch(
            grant(without=frozenset(), egress_socket=True, **fields),
            entry="sandbox_entries:dials",
            config=json.dumps(orders).encode(),
            dial=dial,
        )
        try:
            return await talk.answer(process), dial
        finally:
            process.close()
            await talk.end(process)

    return asyncio.run(scenario())


def test_the_sdk_and_the_sandbox_agree_on_the_address():
    assert SOCKET == EGRESS_SOCKET


@pytest.mark.parametrize("how", ["blocking", "timed", "asyncio"])
def test_a_library_that_connects_to_the_address_speaks_to_the_broker(grant, talk, how):
    answers, dial = ask(grant, talk, [[how, SOCKET]])
    assert answers == ["HELLO"]
    assert dial.count == 1


def test_any_other_address_and_kind_is_refused(grant, talk):
    orders = [["blocking", "/var/run/nscd/socket"], ["blocking", "\0abstract"], ["datagram", SOCKET], ["tcp", SOCKET]]
    answers, _ = ask(grant, talk, orders)
    assert answers == ["PermissionError"] * 4


def test_a_broker_that_has_no_room_is_an_error_of_the_call(grant, talk):
    dialled = Dialled()
    dialled.error = OSError(errno.EAGAIN, "full")
    answers, _ = ask(grant, talk, [["blocking", SOCKET]], dialled)
    assert answers == ["BlockingIOError"]


def test_streams_count_against_the_drivers_own_descriptors(grant, talk):
    answers, dial = ask(grant, talk, [["hoard", SOCKET]], open_files=32)
    assert answers == ["OSError EMFILE"]
    assert dial.count <= 33


def test_without_it_there_is_no_socket(grant, talk):
    async def scenario():
        process = launch(
            grant(without=frozenset()),
            entry="sandbox_entries:dials",
            config=json.dumps([["blocking", SOCKET]]).encode(),
        )
        try:
            return await talk.answer(process)
        finally:
            process.close()
            await talk.end(process)

    assert asyncio.run(scenario()) == ["PermissionError"]


def test_where_no_filter_leads_there_it_is_not_started(grant):
    async def scenario():
        with pytest.raises(LaunchError, match="egress_socket: expected the system call filter"):
            launch(
                grant(without=frozenset({"seccomp"}), egress_socket=True),
                entry="sandbox_entries:dials",
                config=b"[]",
                dial=Dialled(),
            )

    asyncio.run(scenario())


class Listening:
    """A listener that only counts when what was answered."""

    def __init__(self, loop):
        self.at = []
        self.refused = []
        self._loop = loop

    def fileno(self):
        return 3

    def hand(self, call, descriptor, *, close_on_exec):
        self.at.append(self._loop.time())

    def refuse(self, call, error):
        self.refused.append(error)


class Called:
    arguments = (socket.AF_UNIX, socket.SOCK_STREAM, 0)


def test_who_asks_without_end_waits(monkeypatch):
    """The time of the loop is the test's own: what would take seconds is counted, not waited for."""

    async def scenario():
        loop = asyncio.get_running_loop()
        later = []
        monkeypatch.setattr(loop, "time", lambda: 100.0)
        monkeypatch.setattr(loop, "call_later", lambda delay, *_: later.append(delay))

        def dial():
            ours, its = socket.socketpair()
            ours.close()
            return its

        listening, outlet = Listening(loop), Outlet(dial)
        for _ in range(AT_ONCE + 10):
            outlet.answer(listening, Called)
        monkeypatch.undo()
        assert len(listening.at) == AT_ONCE
        assert later == pytest.approx([number / A_SECOND for number in range(1, 11)])

    asyncio.run(scenario())


def test_no_more_calls_wait_than_may(monkeypatch):
    """Whoever takes calls back and asks again has each of them remembered until its turn comes."""

    async def scenario():
        loop = asyncio.get_running_loop()
        now, later = [100.0], []
        monkeypatch.setattr(loop, "time", lambda: now[0])
        monkeypatch.setattr(loop, "call_later", lambda delay, *_: later.append(delay))

        def dial():
            ours, its = socket.socketpair()
            ours.close()
            return its

        listening, outlet = Listening(loop), Outlet(dial)
        for _ in range(AT_ONCE + 10 * MOST_WAITING):
            outlet.answer(listening, Called)
        assert len(later) <= MOST_WAITING + 1
        assert set(listening.refused) == {errno.EAGAIN}
        assert len(listening.at) + len(later) + len(listening.refused) == AT_ONCE + 10 * MOST_WAITING
        now[0] += 2 * (MOST_WAITING + AT_ONCE) / A_SECOND
        listening.refused.clear()
        outlet.answer(listening, Called)
        assert listening.refused == [], "it is answered again once there is room"
        monkeypatch.undo()

    asyncio.run(scenario())
