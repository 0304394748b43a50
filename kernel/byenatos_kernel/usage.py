"""How often each model was asked for, by hour of the week: the history from which models are preloaded.

One row of the database for each model, week and hour in which there was a request, for the last :data:`WEEKS` weeks: at
most a few thousand small rows, whatever the load. Requests are counted in memory and written now and then.

How likely a model is in an hour is its share of the requests of all hours like it: the same hour of the day, on working
days or on weekend days, in those weeks. So a model of which 30 of the 100 requests from 9 to 10 on working days were
made has 0.3 at 9 on a Tuesday. Hours are those of this machine's time zone.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import date

from msgspec import Struct

from byenatos_kernel.database import Database
from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.messages import Terminal

__all__ = ["WEEKS", "Hour", "Share", "UsageHistory", "hour_of"]

WEEKS = 4
"""How many weeks count, besides the one that runs."""
_WORKING_DAYS = 5


class Hour(Struct, frozen=True):
    """An hour: its ``week``, counted from the calendar's beginning, and its number ``of_week``, from 0 on Monday."""

    week: int
    of_week: int

    @property
    def of_day(self) -> int:
        """The hour of the day."""
        return self.of_week % 24

    @property
    def working(self) -> bool:
        """Whether it is on a working day, Monday to Friday."""
        return self.of_week // 24 < _WORKING_DAYS

    @property
    def alike(self) -> tuple[int, ...]:
        """The hours of a week that are like it."""
        days = range(_WORKING_DAYS) if self.working else range(_WORKING_DAYS, 7)
        return tuple(day * 24 + self.of_day for day in days)


class Share(Struct, frozen=True):
    """What one model was asked in hours like one: ``requests``, and which ``share`` (0 to 1) of all requests."""

    requests: int
    share: float


def hour_of(at: float) -> Hour:
    """The hour that holds ``at``, in seconds since the epoch."""
    local = time.localtime(at)
    week = (date(local.tm_year, local.tm_mon, local.tm_mday).toordinal() - 1) // 7
    return Hour(week, local.tm_wday * 24 + local.tm_hour)


class UsageHistory:
    """Counts requests. ``known`` says whether a name is a model's: one that is not loaded is asked for as well."""

    def __init__(self, database: Database, known: Callable[[str], bool], wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._known = known
        self._wall = wall
        self._counted: Counter[tuple[str, Hour]] = Counter()
        self._minute = -1.0
        self._hour = Hour(0, 0)

    def ended(self, stream: Stream, _: Terminal) -> None:
        """Count a request for the model that served it, or that it wanted."""
        model = stream.model or (stream.target if self._known(stream.target) else "")
        if model:
            self._counted[model, self._now()] += 1

    def _now(self) -> Hour:
        """The hour that it is. The calendar is asked once a minute and not for each request.

        Hours of all time zones begin with a minute, and so do their changes to and from summer time.
        """
        now = self._wall()
        minute = now // 60
        if minute != self._minute:
            self._minute = minute
            self._hour = hour_of(now)
        return self._hour

    async def write(self) -> None:
        """Write what was counted since, and forget what is too old.

        Raises:
            ByenatosError: it cannot be written; it stays counted.
        """
        counted, self._counted = self._counted, Counter()
        if not counted:
            return
        oldest = hour_of(self._wall()).week - WEEKS

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO usage VALUES (?, ?, ?, ?) "
                "ON CONFLICT(model, week, hour) DO UPDATE SET requests=requests+excluded.requests",
                [(model, hour.week, hour.of_week, count) for (model, hour), count in counted.items()],
            )
            connection.execute("DELETE FROM usage WHERE week < ?", (oldest,))

        try:
            await self._database.run(job)
        except BaseException:
            self._counted.update(counted)
            raise

    async def shares(self, hour: Hour) -> dict[str, Share]:
        """What each model was asked in hours like this one; those that were not asked are left out."""
        await self.write()

        def job(connection: sqlite3.Connection) -> dict[str, int]:
            places = ", ".join("?" for _ in hour.alike)
            rows = connection.execute(
                f"SELECT model, SUM(requests) FROM usage WHERE week >= ? AND hour IN ({places}) GROUP BY model",  # noqa: S608 - question marks
                (hour.week - WEEKS, *hour.alike),
            )
            return dict(rows.fetchall())

        requests = await self._database.run(job)
        total = sum(requests.values())
        return {model: Share(count, count / total) for model, count in requests.items()}
