"""Clients that do not read: what is lost, what it costs the kernel, and what others notice."""

import asyncio
import socket
import statistics
import time

import pytest
import zmq
from kernel_process import counting, numbers, until, until_ready

from byenatos_sdk.protocol.messages import Failure, Finish
from byenatos_sdk.protocol.zmtp import opening

MIB = 1 << 20
STREAMS = 64


def test_a_default_router_loses_most_of_what_a_client_does_not_read_in_time(tmp_path):
    """The contrast: what the kernel would do with a socket as it comes out of the box."""
    context = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        router.bind(f"ipc://{tmp_path}/socket")
        dealer.setsockopt(zmq.IDENTITY, b"slow")
        dealer.connect(f"ipc://{tmp_path}/socket")
        dealer.send(b"hello")
        router.recv_multipart()
        for number in range(50_000):
            router.send_multipart([b"slow", b"%d" % number])
        arrived = 0
        while dealer.poll(500):
            dealer.recv()
            arrived += 1
    finally:
        context.destroy(linger=0)
    assert arrived < 25_000, "no loss to show: the contrast is gone"


async def test_what_a_client_reads_late_arrives_whole_as_long_as_it_is_under_the_cap(start_kernel, raw):
    kernel = start_kernel()
    tokens = 20_000
    async with kernel.client() as client:
        await until_ready(client)
        before = kernel.rss
        slow = raw()
        slow.hello()
        for number in range(1, STREAMS + 1):
            slow.open(number, tokens=tokens)
        status = await until(client, lambda status: status.streams == 0 and status.requests >= STREAMS)
        assert status.deltas == STREAMS * tokens
        assert kernel.rss - before <= 32 * MIB
    await slow.aread(lambda: len(slow.terminals) == STREAMS)
    assert {len(terminals) for terminals in slow.terminals.values()} == {1}
    assert all(isinstance(terminals[0], Finish) for terminals in slow.terminals.values())
    assert {slow.text(number) for number in range(1, STREAMS + 1)} == {numbers(tokens)}


@pytest.mark.parametrize("text", ["0123456789" * 8, "\N{GRINNING FACE}" * 24], ids=["ascii", "four-byte"])
async def test_64_endless_streams_that_nobody_reads_end_as_too_slow_and_the_kernel_stays_small(start_kernel, raw, text):
    kernel = start_kernel(slots={"other": "echo-two"})
    async with kernel.client() as client:
        await until_ready(client, "default", "other")
        before = kernel.rss
        slow = raw()
        slow.hello()
        for number in range(1, STREAMS + 1):
            slow.open(number, tokens=-1, text=text)
        mine = client.stream("count", model="other", extra=counting(100, 100))
        most = before
        async for _ in mine:
            most = max(most, kernel.rss)
        assert mine.text == numbers(100)
        await until(client, lambda status: status.streams == 0)
        most = max(most, kernel.rss)
        assert most - before <= 32 * MIB
    await slow.aread(lambda: len(slow.terminals) == STREAMS)
    for number, terminals in slow.terminals.items():
        [terminal] = terminals
        assert isinstance(terminal, Failure)
        assert (terminal.code, terminal.partial) == ("client_too_slow", True)
        assert slow.text(number) == text * (len(slow.text(number)) // len(text))


async def test_a_client_that_does_not_read_does_not_slow_the_others(start_kernel, raw):
    kernel = start_kernel(slots={"other": "echo-two"})

    async def median_s(client):
        """The least of six medians: what else the machine did for a while is not the slow client's doing."""
        medians = []
        for _ in range(6):
            times = []
            for _ in range(50):
                begun = time.perf_counter()
                await client.infer("x", model="other", extra={"echo": {"reply": "y"}})
                times.append(time.perf_counter() - begun)
            medians.append(statistics.median(times))
        return min(medians)

    async with kernel.client() as client:
        await until_ready(client, "default", "other")
        await median_s(client)
        slowed = []
        for _ in range(3):  # the machine may have slowed down just then; a slow client would slow the others each time
            alone = await median_s(client)
            deltas = (await client.status()).deltas
            slow = raw()
            slow.hello()
            for number in range(1, STREAMS + 1):
                slow.open(number, tokens=-1, text="0123456789" * 8)
            await until(client, lambda status, known=deltas: status.streams == 0 and status.deltas > known)
            slowed.append(await median_s(client) / alone)
            slow.context.destroy(linger=None)
            if slowed[-1] < 2:
                break
        assert slowed[-1] < 2, f"times as slow beside a slow client: {slowed}"


async def test_a_paused_stream_stays_behind_and_the_others_of_its_client_go_on(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        unread = client.stream("count", extra=counting(20_000))
        read = await client.infer("count", extra=counting(20_000))
        assert read.text == numbers(20_000)
        assert (await unread.response()).text == numbers(20_000)


async def test_a_stream_that_its_reader_leaves_unread_ends_as_too_slow_and_says_what_it_had(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        unread = client.stream("count", extra=counting(-1))
        await until(client, lambda status: status.streams == 0 and status.deltas > 0)
        with pytest.raises(Exception, match="did not read") as caught:
            await unread.response()
        assert (caught.value.code, caught.value.partial) == ("client_too_slow", True)
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_client_that_was_too_slow_is_served_again_once_it_reads(start_kernel, raw):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        slow = raw()
        slow.hello()
        slow.open(1, tokens=-1)
        await until(client, lambda status: status.streams == 0 and status.deltas > 0)
        await slow.aread(lambda: 1 in slow.terminals)
        slow.open(2, tokens=5)
        await slow.aread(lambda: 2 in slow.terminals)
        assert slow.text(2) == numbers(5)


# ---- clients that ask without reading --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["requests", "refused", "calls", "garbage", "hello", "single", "dead-acks"])
async def test_a_client_that_asks_and_asks_and_never_reads_costs_the_kernel_little(start_kernel, raw, kind):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        before = kernel.rss
        flood = raw()
        flood.hello()

        def send_all():
            for number in range(1, 60_001):
                match kind:
                    case "requests":
                        flood.open(number, reply="y")
                    case "refused":
                        flood.open(number, target="nothing")
                    case "calls":
                        flood.call(number, "status" if number % 2 else "nonsense")
                    case "garbage":
                        flood.send_raw(b"\xc1garbage", b"")
                    case "hello":
                        flood.send_raw(b"\x92\x00\x91\x01", b"")
                    case "single":
                        flood.send_raw(b"alone")
                    case "dead-acks":
                        flood.send_raw(b"\x92\x03\xcd\xff\xff", b"")

        flooding = asyncio.create_task(asyncio.to_thread(send_all))
        most = before
        while not flooding.done():
            assert (await client.infer("count", extra=counting(3))).text == numbers(3)
            most = max(most, kernel.rss)
        await flooding
        flood.context.destroy(linger=None)
        for _ in range(20):
            assert (await client.infer("count", extra=counting(3))).text == numbers(3)
            most = max(most, kernel.rss)
        assert most - before <= 48 * MIB
        await until(client, lambda status: status.streams == 0)


async def test_a_message_of_far_too_many_parts_is_refused_and_its_sender_sent_away(start_kernel, raw):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        flood = raw()
        flood.hello()
        flood.open(1, tokens=-1, rate=5)
        flood.read(lambda: 1 in flood.texts)
        flood.send_raw(*[b"part"] * 50_000)
        flood.read(lambda: len(flood.handshakes) == 2)
        assert "2 frames" in flood.handshakes[1].reason
        [terminal] = flood.terminals[1]
        assert terminal.code == "invalid_request"
        await until(client, lambda status: status.streams == 0)
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_message_without_end_is_refused_at_its_third_frame_and_grows_nothing(start_kernel):
    """What libzmq would gather until memory is out: it bounds frames, and whole messages, but not unfinished ones."""
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        before = kernel.rss
        with socket.socket(socket.AF_UNIX) as endless:
            endless.connect(str(kernel.home.socket))
            endless.sendall(opening(b"DEALER"))
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                endless.sendall((b"\x01\xff" + bytes(255)) * 100_000)
        assert kernel.rss - before < 2 * MIB
        assert (await client.infer("x", extra=counting(3))).text == numbers(3)
