"""The journal of swaps: what it writes is what was true when it was told to."""

import asyncio
import threading

from byenatos_kernel.database import Database
from byenatos_kernel.routes import Slot
from byenatos_kernel.swap_journal import SwapJournal
from byenatos_kernel.swaps import Swap
from byenatos_sdk.protocol.messages import SwapRequest, SwapState


async def test_the_end_of_a_swap_does_not_write_what_the_next_one_has_only_begun_to_bind(tmp_path):
    database = Database(tmp_path / "kernel.db")
    database.open()
    try:
        journal, slot = SwapJournal(database), Slot("main", "b", "")
        swap = Swap(1, SwapRequest("main", "b"), "a")
        swap.bound = slot
        busy = threading.Event()
        held = asyncio.create_task(database.run(lambda _: busy.wait(10)))
        record = asyncio.create_task(journal.record(swap))
        await asyncio.sleep(0)
        slot.model = "c"
        swap.advance(SwapState.VALIDATED)
        busy.set()
        await asyncio.gather(held, record)
        assert await database.run(lambda connection: connection.execute("SELECT model FROM slots").fetchall()) == [
            ("b",)
        ]
        assert [event.state for event in await journal.history()] == [SwapState.REQUESTED]
    finally:
        database.close()
