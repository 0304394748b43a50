import asyncio
import os
import signal
import threading

from byenatos_sandbox import launch
from byenatos_sandbox.capture import OutputCapture
from byenatos_sandbox.output import LONGEST_LINE, OutputTail


def test_a_gigantic_line_is_kept_in_bounds_and_the_last_line_kept(grant, talk):
    async def main():
        process = launch(grant(output_kib_per_s=1 << 20), entry="sandbox_entries:print_endless_line", config=b"64")
        await talk.end(process)
        process.close()
        return process.output()

    cut, last = asyncio.run(main())
    assert cut == "x" * (LONGEST_LINE - 1) + "…"
    assert last == "the last line"


def test_a_flooding_process_is_read_no_faster_than_granted_and_can_be_stopped(grant, talk):
    async def main():
        process = launch(grant(output_kib_per_s=8, output_lines=5), entry="sandbox_entries:flood", config=b"")
        async with asyncio.timeout(60):
            while not process.output():
                await asyncio.sleep(0)
        end = await process.stop(0)
        process.close()
        return end, process.output()

    end, output = asyncio.run(main())
    assert end.signal in {signal.SIGTERM, signal.SIGKILL}
    assert len(output) == 5
    assert all(len(line) == LONGEST_LINE for line in output[:-1])


def test_keys_in_the_output_are_hidden(grant, talk):
    async def main():
        process = launch(
            grant(), entry="sandbox_entries:print_bytes", config=b"using api_key=hunter2hunter2\n\x1b[2J\xff"
        )
        await talk.end(process)
        process.close()
        return process.output()

    assert asyncio.run(main()) == ("using api_key=[redacted]", "\ufffd")


def test_the_gate_lets_one_share_a_second_through():
    """The loop's clock is the test's: a second passes when the test says so."""

    async def main():
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.time = lambda: now
        ours, its = os.pipe()
        os.set_blocking(ours, False)
        os.set_blocking(its, False)
        capture = OutputCapture(loop, [ours], OutputTail(1000), kib_per_s=1)
        line = b"x" * 15 + b"\n"
        os.write(its, line * 256)  # four seconds' worth
        for second in range(1, 5):
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(capture.show()) == 64 * second
            now += 1
        os.write(its, line * 100)
        os.close(its)
        await asyncio.sleep(0)
        capture.drain()  # the writer is gone: what it left is read past the gate
        assert len(capture.show()) == 356
        capture.close()
        capture.close()

    asyncio.run(main())


def test_draining_is_bounded_although_somebody_writes_on():
    async def main():
        ours, its = os.pipe()
        os.set_blocking(ours, False)
        capture = OutputCapture(asyncio.get_running_loop(), [ours], OutputTail(5), kib_per_s=1)

        def write_for_ever():
            try:
                while True:
                    os.write(its, b"x" * 65536)
            except BrokenPipeError:
                os.close(its)

        writer = threading.Thread(target=write_for_ever)
        writer.start()
        for _ in range(100):
            capture.drain()
        capture.close()
        writer.join(60)
        assert not writer.is_alive()

    asyncio.run(main())
