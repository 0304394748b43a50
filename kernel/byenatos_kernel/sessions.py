"""The session store: conversations the kernel keeps.

A user's turn is durable before it is answered, the assistant's when it finishes (before the client hears that it did).
A kernel that dies in between leaves a session that ends in a user's turn; the next message simply follows it.
"""

import math
import sqlite3
import time

import msgspec

from byenatos_kernel.database import Database
from byenatos_sdk.protocol.control import KeepOrder, SessionTranscript, Turn
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import Message, SessionInfo, Value

__all__ = ["Extent", "SessionStore"]

TITLE_LENGTH = 60
KEPT_WITH_NOTES = 10_000
"""Sessions with a note that are kept; the oldest are forgotten first. All others stay until somebody removes them."""
_decode_message = msgspec.msgpack.Decoder(Message).decode


class Extent(Value, frozen=True):
    """How many bytes a session's turns take, and whether there may be ``images`` or ``tools`` in them.

    That is seen by the tags of parts (``image``, ``tool_call``, ``tool_result``, in msgpack), which text may look like.
    """

    id: str
    size_bytes: int
    images: bool
    tools: bool


class SessionStore:
    """Reads and writes sessions through the database's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, session: str, slot: str, owner: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Append the user's ``messages`` (making the session if it is new) and return the whole transcript."""
        now = time.time()

        def job(connection: sqlite3.Connection) -> tuple[Message, ...]:
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET updated_at=?, slot=?",
                (session, slot, owner, now, now, now, slot),
            )
            number = _turns(connection, session) + 1
            for offset, message in enumerate(messages):
                row = (session, number + offset, encode(message), "complete", "", now, 0)
                connection.execute("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            rows = connection.execute("SELECT message FROM turns WHERE session=? ORDER BY number", (session,))
            return tuple(_decode_message(row[0]) for row in rows)

        return await self._database.run(job)

    async def finish(self, session: str, message: Message, *, model: str, moves: int, partial: bool) -> None:
        """Append the assistant's turn; a session that was removed meanwhile stays removed."""
        now = time.time()

        def job(connection: sqlite3.Connection) -> None:
            if connection.execute("UPDATE sessions SET updated_at=? WHERE id=?", (now, session)).rowcount:
                state = "partial" if partial else "complete"
                row = (session, _turns(connection, session) + 1, encode(message), state, model, now, moves)
                connection.execute("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?)", row)

        await self._database.run(job)

    async def keep(self, order: KeepOrder, owner: str) -> None:
        """Store a whole conversation and its note.

        Raises:
            InvalidRequest: there is one of that id, or the one that is to be replaced is not as it was.
            NotFound: the one that is to be replaced is not there any more.
        """
        now = time.time()

        def job(connection: sqlite3.Connection) -> None:
            if order.replaces is None:
                if connection.execute("SELECT 1 FROM sessions WHERE id=?", (order.id,)).fetchone():
                    raise InvalidRequest(f"session {order.id!r}: expected a new id, found one that is taken")
                made = (order.id, order.slot, owner, now, now)
                connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", made)
            else:
                _clear(connection, order, order.replaces, now)
            for number, message in enumerate(order.messages, start=1):
                row = (order.id, number, encode(message), "complete", "", now, 0)
                connection.execute("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("INSERT INTO notes VALUES (?, ?)", (order.id, order.note))
            old = "SELECT session FROM notes ORDER BY rowid DESC LIMIT -1 OFFSET ?"
            connection.execute(f"DELETE FROM sessions WHERE id IN ({old})", (KEPT_WITH_NOTES,))  # noqa: S608

        await self._database.run(job)

    async def list(self) -> list[SessionInfo]:
        """Every session, the latest first."""

        def job(connection: sqlite3.Connection) -> list[SessionInfo]:
            rows = connection.execute("SELECT * FROM sessions ORDER BY updated_at DESC").fetchall()
            return [_info(connection, row) for row in rows]

        return await self._database.run(job)

    async def extents(self, slot: str, since: float) -> tuple[Extent, ...]:
        """How large the sessions of a slot are that were spoken in ``since`` (seconds since the epoch)."""

        def job(connection: sqlite3.Connection) -> tuple[Extent, ...]:
            rows = connection.execute(
                "SELECT sessions.id, sum(length(message)), max(instr(message, x'a5696d616765')), "
                "max(instr(message, x'a9746f6f6c5f63616c6c') + instr(message, x'ab746f6f6c5f726573756c74')) "
                "FROM sessions JOIN turns ON turns.session = sessions.id "
                "WHERE slot = ? AND sessions.updated_at >= ? GROUP BY sessions.id ORDER BY sessions.updated_at DESC",
                (slot, since),
            )
            return tuple(Extent(row[0], row[1], images=row[2] > 0, tools=row[3] > 0) for row in rows)

        return await self._database.run(job)

    async def recent(self, slot: str, since: float, most: int) -> tuple[str, ...]:
        """The ids of those sessions of a slot in which something was said since a time, the latest first."""
        query = "SELECT id FROM sessions WHERE slot=? AND updated_at>=? ORDER BY updated_at DESC LIMIT ?"

        def job(connection: sqlite3.Connection) -> tuple[str, ...]:
            return tuple(row[0] for row in connection.execute(query, (slot, since, most)))

        return await self._database.run(job)

    async def show(self, session: str) -> SessionTranscript:
        """One session with all of its turns; raises ``NotFound``."""

        def job(connection: sqlite3.Connection) -> SessionTranscript:
            row = connection.execute("SELECT * FROM sessions WHERE id=?", (session,)).fetchone()
            if row is None:
                raise _missing(session)
            turns = connection.execute(
                "SELECT number, message, state, model, at, moves FROM turns WHERE session=? ORDER BY number", (session,)
            )
            note = connection.execute("SELECT note FROM notes WHERE session=?", (session,)).fetchone()
            return SessionTranscript(
                _info(connection, row),
                tuple(Turn(turn[0], _decode_message(turn[1]), *turn[2:]) for turn in turns),
                note[0] if note else b"",
            )

        return await self._database.run(job)

    async def move(self, session: str, model: str) -> None:
        """Remember the model that a conversation was moved to, empty: back to its slot's; raises ``NotFound``."""

        def job(connection: sqlite3.Connection) -> None:
            if not connection.execute("SELECT 1 FROM sessions WHERE id=?", (session,)).fetchone():
                raise _missing(session)
            connection.execute("DELETE FROM homes WHERE session=?", (session,))
            if model:
                connection.execute("INSERT INTO homes VALUES (?, ?)", (session, model))

        await self._database.run(job)

    async def moved(self) -> tuple[tuple[str, str, str], ...]:
        """The conversations that were moved: each with its slot and the model that it was moved to."""
        query = "SELECT session, slot, model FROM homes JOIN sessions ON session=id ORDER BY homes.rowid"
        return await self._database.run(lambda connection: tuple(connection.execute(query)))

    async def move_back(self, model: str) -> None:
        """Forget that conversations were moved to ``model``."""
        await self._database.run(lambda connection: connection.execute("DELETE FROM homes WHERE model=?", (model,)))

    async def remove(self, session: str) -> None:
        """Delete a session and its turns; raises ``NotFound``."""

        def job(connection: sqlite3.Connection) -> None:
            if not connection.execute("DELETE FROM sessions WHERE id=?", (session,)).rowcount:
                raise _missing(session)

        await self._database.run(job)


def _missing(session: str) -> NotFound:
    return NotFound(f"no session {session!r}; `byenatos sessions list` shows what there is")


def _clear(connection: sqlite3.Connection, order: KeepOrder, replaces: float, now: float) -> None:
    """Make room for what comes in the place of a session, which is later than it even where the clock is not."""
    row = connection.execute("SELECT updated_at FROM sessions WHERE id=?", (order.id,)).fetchone()
    if row is None:
        raise _missing(order.id)
    if row[0] != replaces:
        raise InvalidRequest(f"session {order.id!r}: expected it as it was read, found it changed since")
    later = max(now, math.nextafter(replaces, math.inf))
    connection.execute("UPDATE sessions SET updated_at=?, slot=? WHERE id=?", (later, order.slot, order.id))
    connection.execute("DELETE FROM turns WHERE session=?", (order.id,))
    connection.execute("DELETE FROM notes WHERE session=?", (order.id,))


def _turns(connection: sqlite3.Connection, session: str) -> int:
    row = connection.execute("SELECT coalesce(max(number), 0) FROM turns WHERE session=?", (session,)).fetchone()
    return int(row[0])


def _info(connection: sqlite3.Connection, row: tuple[str, str, str, float, float]) -> SessionInfo:
    first = connection.execute(
        "SELECT message FROM turns WHERE session=? ORDER BY number LIMIT 1", (row[0],)
    ).fetchone()
    title = " ".join(_decode_message(first[0]).text.split())[:TITLE_LENGTH] if first else ""
    return SessionInfo(*row, turns=_turns(connection, row[0]), title=title)
