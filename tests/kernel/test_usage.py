"""The history of requests: what is counted in which hour, kept how long, and how likely that makes a model."""

import time
from datetime import datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from byenatos_kernel.clients import ClientState
from byenatos_kernel.database import Database
from byenatos_kernel.streams import Stream
from byenatos_kernel.usage import WEEKS, Share, UsageHistory, hour_of
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Finish

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def desk(tmp_path):
    """A history over a database, with a clock: ``ask(model, when, times)``."""
    database = Database(tmp_path / "kernel.db")
    database.open()
    desk = SimpleNamespace(at=0.0, database=database)
    desk.history = UsageHistory(database, lambda name: name in {"a", "b"}, lambda: desk.at)

    def ask(model, when, times=1, *, served=True):
        desk.at = moment(when)
        for _ in range(times):
            stream = Stream(ClientState("uid:0", 0), 1, model)
            stream.model = model if served else ""
            desk.history.ended(stream, Finish())

    desk.ask = ask
    yield desk
    database.close()


def moment(when):
    return datetime.fromisoformat(when).replace(tzinfo=BERLIN).timestamp()


async def shares(desk, when):
    desk.at = moment(when)
    return await desk.history.shares(hour_of(desk.at))


def test_an_hour_knows_its_day_and_those_that_are_like_it():
    monday, sunday = hour_of(moment("2026-03-02 09:59")), hour_of(moment("2026-03-08 23:00"))
    assert (monday.of_week, monday.of_day, monday.working) == (9, 9, True)
    assert monday.alike == (9, 33, 57, 81, 105)
    assert (sunday.of_week, sunday.of_day, sunday.working) == (6 * 24 + 23, 23, False)
    assert sunday.alike == (5 * 24 + 23, 6 * 24 + 23)
    assert sunday.week == monday.week
    assert hour_of(moment("2026-03-09 00:00")).week == monday.week + 1


async def test_a_models_share_is_that_of_the_requests_in_hours_alike(desk):
    desk.ask("a", "2026-03-02 09:10", 30)  # Monday
    desk.ask("b", "2026-03-03 09:50", 70)
    desk.ask("b", "2026-03-03 10:00", 500)
    desk.ask("a", "2026-03-07 09:00", 5)  # Saturday
    assert await shares(desk, "2026-03-04 09:30") == {"a": Share(30, 0.3), "b": Share(70, 0.7)}
    assert await shares(desk, "2026-03-08 09:30") == {"a": Share(5, 1.0)}
    assert await shares(desk, "2026-03-08 03:30") == {}


async def test_a_model_that_is_not_loaded_is_asked_for_as_well_and_what_is_no_model_is_not(desk):
    desk.ask("a", "2026-03-02 09:10", served=False)
    desk.ask("nonsense", "2026-03-02 09:10", 9, served=False)
    assert await shares(desk, "2026-03-02 09:20") == {"a": Share(1, 1.0)}


async def test_what_is_older_than_some_weeks_counts_no_more_and_is_removed(desk):
    desk.ask("a", "2026-01-05 09:00", 10)
    assert await shares(desk, "2026-02-02 09:00") == {"a": Share(10, 1.0)}  # a Monday, four weeks later
    assert await shares(desk, "2026-02-09 09:00") == {}
    desk.ask("b", "2026-02-09 09:00")
    await desk.history.write()
    rows = await desk.database.run(lambda connection: connection.execute("SELECT model FROM usage").fetchall())
    assert rows == [("b",)]


async def test_a_year_of_requests_is_a_few_rows(desk):
    for day in range(1, 29):
        for hour in (9, 10):
            desk.ask("a", f"2026-02-{day:02} {hour:02}:00", 50)
            await desk.history.write()
    (rows,) = await desk.database.run(lambda connection: connection.execute("SELECT COUNT(*) FROM usage").fetchone())
    assert rows == 28 * 2 <= (WEEKS + 1) * 168


async def test_what_cannot_be_written_stays_counted(desk):
    desk.ask("a", "2026-03-02 09:10", 3)
    desk.database.close()
    with pytest.raises(ByenatosError):
        await desk.history.write()
    desk.database.open()
    desk.ask("a", "2026-03-02 09:20")
    assert await shares(desk, "2026-03-02 09:30") == {"a": Share(4, 1.0)}
