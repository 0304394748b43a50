"""Swaps, deaths, sessions, cancels and slow readers at the same time: what must hold holds together."""

import asyncio
import os
import random
import signal
from contextlib import suppress

import psutil
from kernel_process import counting, instance_of, is_counted, numbers, until

from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable
from byenatos_sdk.protocol.messages import InstanceState

TOKENS = 80


async def test_swaps_and_deaths_at_the_same_time_leave_every_stream_with_one_honest_end(start_kernel):
    kernel = start_kernel(models={"refuge": {}, "one": {}, "two": {}}, default="one", fallback="refuge")
    chance = random.Random(7)
    running = True
    complete, failed = [], []

    async def ask(client, number):
        turn = 0
        while running:
            turn += 1
            session = f"talk {number} {turn}" if number % 3 == 0 else None
            stream = client.stream("count", extra=counting(TOKENS, 100), session=session)
            try:
                if number % 8 == 7:
                    for _ in range(chance.randrange(1, 20)):
                        await anext(stream)
                    await stream.aclose()
                    assert is_counted(stream.text)
                    continue
                answer = await stream.response()
            except Unavailable as error:
                failed.append(error)
                assert is_counted(stream.text)
            else:
                assert answer.text == numbers(TOKENS)
                complete.append((session, answer))

    async def swap(client):
        done = 0
        while done < 10:
            status = await client.status()
            target = "two" if status.slots[0].model == "one" else "one"
            with suppress(ByenatosError):  # its target was killed
                await client.swap("default", target, strategy=("immediate", "graceful")[done % 2])
            done += 1

    async def kill(client):
        last = 0
        for _ in range(4):
            status = await until(client, lambda status, last=last: ready(status, last))
            victim = max(ready(status, last), key=lambda instance: instance.epoch)
            last = victim.epoch
            with suppress(ProcessLookupError):  # a swap was quicker
                os.kill(victim.pid, signal.SIGKILL)

    def ready(status, after):
        """The processes that serve; one that is just being made has no pid yet, and 0 would be everybody here."""
        serving = [one for one in status.instances if one.state is InstanceState.READY and one.pid]
        return [one for one in serving if one.model in {"one", "two"} and one.epoch > after]

    async with kernel.client() as client, kernel.client() as swapper, kernel.client() as killer:
        await until(client, lambda status: sum(one.state is InstanceState.READY for one in status.instances) == 2)
        async with asyncio.TaskGroup() as group:
            for number in range(32):
                group.create_task(ask(client, number))
            await asyncio.gather(swap(swapper), kill(killer))
            running = False
        status = await until(client, lambda status: status.streams == 0)
        assert complete
        assert any(answer.moves for _, answer in complete)
        assert len(failed) < len(complete)
        assert sum(one.streams for one in status.instances) == 0
        for session, answer in complete:
            if session is not None:
                _, turn = (await client.transcript(session)).turns
                assert (turn.message.text, turn.moves) == (numbers(TOKENS), len(answer.moves))
        refuge = instance_of(status, "refuge")
        assert refuge.state is InstanceState.READY


async def test_a_kernel_that_has_done_much_is_no_larger_and_holds_nothing(start_kernel):
    kernel = start_kernel()

    async def work(client, times):
        for _ in range(times):
            await asyncio.gather(*(client.infer("count", extra=counting(50)) for _ in range(200)))

    async with kernel.client() as client:
        await until(client, lambda status: status.slots[0].state == "ready")
        await work(client, 10)
        before = kernel.rss
        descriptors = psutil.Process(kernel.pid).num_fds()
        await work(client, 20)
        for model in ("echo-two", "echo") * 3:
            await client.swap("default", model)
        await until(client, lambda status: len(status.instances) == 1)
        assert kernel.rss - before < 2 << 20
        assert psutil.Process(kernel.pid).num_fds() <= descriptors
        assert len(list(kernel.home.scratch.iterdir())) == ("mount-namespace" in missing())
    kernel.stop()
    assert list(kernel.home.scratch.iterdir()) == []
