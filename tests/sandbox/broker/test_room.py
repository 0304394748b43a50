"""What all drivers together may have of the broker, and what those hear who come too late."""

import asyncio
import socket

import pytest
from broker_rig import Broker, read_answer, rule
from vendor import Vendor

from byenatos_sandbox.broker.messages import Key
from byenatos_sandbox.broker.port import MOST_LINES
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.room import OWN_LINES, Room


async def test_others_connections_leave_a_driver_a_few_of_its_own(tmp_path):
    async with Vendor() as vendor:
        room = Room(most_lines=6)
        for folder in ("greedy", "modest"):
            (tmp_path / folder).mkdir()
        async with (
            Broker(tmp_path / "greedy", rule(vendor), room=room) as greedy,
            Broker(tmp_path / "modest", rule(vendor), room=room) as modest,
        ):
            taken = [await greedy.dial() for _ in range(6)]
            assert (await greedy.dial()).startswith(b"-all drivers together have 6 connections open")
            kept = [await modest.dial() for _ in range(OWN_LINES)]
            assert (await modest.dial()).startswith(b"-all drivers together")
            assert (await modest.get(stream=kept[0])).status == 200
            for _, writer in (*taken, *kept):
                writer.close()
                await writer.wait_closed()
            while greedy.port.lines or modest.port.lines:
                await asyncio.sleep(0)
            reader, writer = await greedy.dial()
            assert (await greedy.get(stream=(reader, writer))).status == 200
            writer.close()


async def test_a_stream_of_the_kernels_is_served_as_one_that_was_dialled(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        ours, its = socket.socketpair()
        broker.port.serve(its)
        reader, writer = await asyncio.open_connection(sock=ours)
        assert (await broker.get(stream=(reader, writer))).json()["target"] == "/v1/x"
        writer.close()


async def test_a_stream_of_the_kernels_without_room_is_answered_and_ended(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        taken = [await broker.dial() for _ in range(MOST_LINES)]
        ours, its = socket.socketpair()
        broker.port.serve(its)
        reader, writer = await asyncio.open_connection(sock=ours)
        answer = await read_answer(reader)
        assert (answer.status, answer.refused) == (503, True)
        assert answer.reason == f"{MOST_LINES} connections are open; close some"
        assert await reader.read() == b""
        for _, one in (*taken, (reader, writer)):
            one.close()


async def test_requests_that_are_kept_whole_have_one_bound_for_all_drivers(tmp_path):
    signed = Key("tencent", scheme="tc3", service="hunyuan")
    async with Vendor() as vendor:
        room = Room(most_held=1 << 20)
        async with Broker(tmp_path, rule(vendor, key=signed), room=room) as broker:
            with room.hold((1 << 20) - 1000):
                answer = await broker.get(method="POST", body=b"x" * 2000)
                assert (answer.status, answer.refused) == (503, True)
                assert "all drivers together keep 1 MiB of requests" in answer.reason
                assert (await broker.get(method="POST", body=b"x" * 900)).status == 200
            assert (await broker.get(method="POST", body=b"x" * 2000)).status == 200
            assert [line["status"] for line in await broker.audited(3)] == [503, 200, 200]


def test_what_was_held_is_given_back_whatever_happens():
    room = Room(most_held=10)
    with pytest.raises(KeyError), room.hold(10):
        raise KeyError
    with room.hold(10), pytest.raises(Refused), room.hold(1):
        pass
