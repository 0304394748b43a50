import asyncio
import os
import signal
import threading

import pytest

from byenatos_sandbox import Exit, launch


def run(grant, talk, entry, config=b"", **fields):
    """Run an entry to its end; its exit and its output."""

    async def main():
        process = launch(grant(**fields), entry=entry, config=config)
        end = await talk.end(process)
        process.close()
        return end, process.output()

    return asyncio.run(main())


def test_a_returning_entry_exits_with_status_0(grant, talk):
    end, _ = run(grant, talk, "sandbox_entries:leave_with_status", b"0")
    assert end == Exit(status=0, signal=None)


def test_a_status_is_reported(grant, talk):
    end, _ = run(grant, talk, "sandbox_entries:leave_with_status", b"3")
    assert end.describe() == "exited with status 3"


def test_an_entry_that_raises_exits_with_its_traceback_as_last_output(grant, talk):
    end, output = run(grant, talk, "sandbox_entries:fail", b"engine on fire")
    assert end.describe() == "exited with status 1"
    assert "about to fail" in output
    assert output[-1] == "RuntimeError: engine on fire"


def test_an_exit_at_import_is_reported_with_its_last_output(grant, talk):
    end, output = run(grant, talk, "sandbox_broken_entry:run")
    assert end.status == 1
    assert "importing" in output
    assert output[-1] == "ImportError: no such engine"


def test_an_entry_that_does_not_exist_is_reported(grant, talk):
    end, output = run(grant, talk, "no_such_module:run")
    assert end.status == 1
    assert output[-1] == "ModuleNotFoundError: No module named 'no_such_module'"


@pytest.mark.parametrize("entry", ["wait", "stubborn_family"])
def test_sigkill_is_seen_and_named(grant, talk, entry):
    async def main():
        process = launch(grant(), entry=f"sandbox_entries:{entry}", config=b"")
        await talk.answer(process)
        os.kill(process.pid, signal.SIGKILL)
        end = await talk.end(process)
        process.close()
        return end

    assert asyncio.run(main()).describe() == "was killed by SIGKILL"


def test_an_unnamed_signal_is_described_by_its_number():
    assert Exit(status=None, signal=40).describe() == "was killed by signal 40"


def test_on_exit_is_called_once_after_the_exit_is_known(grant, talk):
    calls = []

    async def main():
        process = launch(
            grant(),
            entry="sandbox_entries:leave_with_status",
            config=b"7",
            on_exit=lambda process: calls.append((process.name, process.exited.result())),
        )
        await talk.end(process)
        process.close()

    asyncio.run(main())
    assert calls == [("test/driver", Exit(status=7, signal=None))]


def test_a_willing_process_ends_at_the_first_word(grant, talk):
    async def main():
        process = launch(grant(stop_grace_s=1e6), entry="sandbox_entries:wait", config=b"")
        await talk.answer(process)
        async with asyncio.timeout(60):
            end = await process.stop()
        assert await process.stop() == end
        process.close()
        return end

    assert asyncio.run(main()).describe() == "was killed by SIGTERM"


def test_a_process_that_ignores_sigterm_is_killed_with_its_whole_group_after_the_grace(grant, talk):
    async def main():
        process = launch(grant(stop_grace_s=1e6), entry="sandbox_entries:stubborn_family", config=b"")
        grandchild = os.pidfd_open(await talk.answer(process))
        async with asyncio.timeout(60):
            exits = await asyncio.gather(process.stop(), process.stop(0.05))
        process.close()
        assert talk.gone(grandchild)
        return exits

    first, second = asyncio.run(main())
    assert first == second == Exit(status=None, signal=signal.SIGKILL)


def test_what_a_process_leaves_in_its_group_dies_with_it(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:leave_a_child_behind", config=b"")
        grandchild = os.pidfd_open(await talk.answer(process))
        end = await talk.end(process)
        process.close()
        assert talk.gone(grandchild)
        return end

    assert asyncio.run(main()).status == 0


def test_a_thread_that_is_left_behind_does_not_keep_the_process_alive(grant, talk):
    end, _ = run(grant, talk, "sandbox_entries:leave_with_a_busy_thread")
    assert end.status == 0


def test_an_exit_in_words_is_an_error_with_its_words_as_output(grant, talk):
    end, output = run(grant, talk, "sandbox_entries:leave_with_words", b"no licence")
    assert end.status == 1
    assert output == ("no licence",)


def test_sigstop_is_seen_while_it_lasts(grant, talk):
    async def main():
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, changed.set)
        process = launch(grant(), entry="sandbox_entries:wait", config=b"")
        await talk.answer(process)
        assert not process.stopped()

        async def until(state):
            async with asyncio.timeout(60):
                while process.stopped() is not state:
                    changed.clear()
                    await changed.wait()

        changed.clear()
        process.signal(signal.SIGSTOP)
        await until(True)
        assert process.stopped()  # still: asking does not take the answer away
        process.signal(signal.SIGCONT)
        await until(False)
        process.signal(signal.SIGSTOP)
        await until(True)
        end = await process.stop(0)
        assert not process.stopped()
        process.close()
        loop.remove_signal_handler(signal.SIGCHLD)
        return end

    assert asyncio.run(main()).signal == signal.SIGKILL


def test_nothing_happens_to_anybody_when_a_dead_process_is_signalled(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:leave_with_status", config=b"0")
        end = await talk.end(process)
        process.signal(signal.SIGKILL)
        process.kill()
        assert await process.stop() == end
        process.close()
        process.close()
        process.kill()

    asyncio.run(main())


def test_closing_a_living_process_ends_it(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:stubborn_family", config=b"")
        await talk.answer(process)
        process.close()
        process.close()
        return await talk.end(process)

    assert asyncio.run(main()).signal == signal.SIGKILL


def test_giving_up_on_waiting_does_not_lose_the_exit(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:wait", config=b"")
        await talk.answer(process)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.exited, 0)
        process.exited.cancel()
        process.kill()
        end = await talk.end(process)
        process.close()
        return end

    assert asyncio.run(main()).signal == signal.SIGKILL


def test_what_was_sent_before_the_end_can_be_read_after_it(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:facts", config=b"kept")
        await talk.end(process)
        known = await talk.answer(process)
        process.close()
        return known

    assert asyncio.run(main())["config"] == "kept"


def test_memory_beyond_the_grant_is_refused(grant, talk):
    end, output = run(grant, talk, "sandbox_entries:take_memory", b"1024", memory_mib=256)
    assert end.status == 1
    assert output[-1] == "MemoryError"


def test_a_file_beyond_the_grant_is_refused_and_the_scratch_folder_emptied(grant, talk, tmp_path):
    end, output = run(grant, talk, "sandbox_entries:write_file", b"2000000", file_size_mib=1)
    assert end.status == 1
    assert output[-1] == "OSError: [Errno 27] File too large"
    for thread in threading.enumerate():
        if thread.name == "byenatos-scratch":
            thread.join(60)
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_is_removed_however_deep_it_was_nested(grant, talk, tmp_path):
    end, _ = run(grant, talk, "sandbox_entries:nest_folders", b"3000")
    assert end.status == 0
    for thread in threading.enumerate():
        if thread.name == "byenatos-scratch":
            thread.join(60)
    assert not list(tmp_path.iterdir())
