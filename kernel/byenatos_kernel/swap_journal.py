"""The journal of swaps: every step on disk before the next, and what each slot is bound to, in one transaction."""

import sqlite3

import msgspec

from byenatos_kernel.database import Database
from byenatos_kernel.routes import Slot
from byenatos_kernel.swaps import ENDED, Swap
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import SwapEvent, SwapState

__all__ = ["SwapJournal"]

HISTORY = 200
_decode_event = msgspec.msgpack.Decoder(SwapEvent).decode


class SwapJournal:
    """Reads and writes swaps and slots through the database's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recover(self) -> tuple[list[tuple[str, str, str]], int]:
        """End on paper what a dead kernel left unfinished; return the slots and the last swap's number.

        What had switched is retired, for its old instance died with the kernel; all else has failed. A slot comes as
        its name, the model that it is bound to, and what the configuration said then.
        """

        def job(connection: sqlite3.Connection) -> tuple[list[tuple[str, str, str]], int]:
            for number, blob in connection.execute("SELECT id, event FROM swaps").fetchall():
                event = _decode_event(blob)
                if event.state in ENDED:
                    continue
                done = event.state in {SwapState.SWITCHED, SwapState.DRAINING}
                state = SwapState.RETIRED if done else SwapState.FAILED
                event = msgspec.structs.replace(event, state=state, detail="the kernel stopped during this swap")
                connection.execute("UPDATE swaps SET state=?, event=? WHERE id=?", (state.value, encode(event), number))
            slots = connection.execute("SELECT name, model, configured FROM slots").fetchall()
            last = connection.execute("SELECT coalesce(max(id), 0) FROM swaps").fetchone()[0]
            return slots, last

        return await self._database.run(job)

    async def history(self) -> list[SwapEvent]:
        """The last swaps, the newest first, as far as each has come."""

        def job(connection: sqlite3.Connection) -> list[SwapEvent]:
            rows = connection.execute("SELECT event FROM swaps ORDER BY id DESC LIMIT ?", (HISTORY,))
            return [_decode_event(row[0]) for row in rows]

        return await self._database.run(job)

    async def bind(self, slot: Slot) -> None:
        """Remember what a slot is bound to."""
        row = _row(slot)
        await self._database.run(lambda connection: _write_slot(connection, row))

    async def record(self, swap: Swap) -> None:
        """Write where a swap stands and, once it has switched, what its slot is bound to: together or not at all.

        Before it has switched nothing has changed that a machine without power would have to remember. What is written
        is what is true now: by the time the database's thread gets to it, the next swap may have switched the slot.
        """
        event, row = swap.event, _row(swap.bound) if swap.bound is not None else None

        def job(connection: sqlite3.Connection) -> None:
            if row is not None:
                _write_slot(connection, row)
            _write_swap(connection, event)

        await self._database.run(job, durable=row is not None)


def _row(slot: Slot) -> tuple[str, str, str]:
    return slot.name, slot.model, slot.configured


def _write_slot(connection: sqlite3.Connection, row: tuple[str, str, str]) -> None:
    connection.execute(
        "INSERT INTO slots VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE SET model=excluded.model, "
        "configured=excluded.configured",
        row,
    )


def _write_swap(connection: sqlite3.Connection, event: SwapEvent) -> None:
    connection.execute(
        "INSERT INTO swaps VALUES (?, ?, ?, ?) "
        "ON CONFLICT(id) DO UPDATE SET state=excluded.state, event=excluded.event",
        (event.id, event.slot, event.state.value, encode(event)),
    )
