"""Loading with low priority: the threads of the executor step back, nobody else does."""

import asyncio
import os
import threading

from byenatos_sdk.runtime.background import LOWEST, background_load


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_threads_that_load_step_back_and_those_that_come_later_do_not():
    async def load():
        usual = priority()
        with background_load(asyncio.get_running_loop()):
            assert await asyncio.to_thread(priority) == LOWEST
            assert priority() == usual
        assert await asyncio.to_thread(priority) == usual
        found = []
        later = threading.Thread(target=lambda: found.append(priority()))
        later.start()
        later.join()
        assert found == [usual]

    asyncio.run(load())
