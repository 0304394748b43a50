"""Cron lines in time zones, above all where clocks are changed; Berlin changes at 01:00 UTC."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from byenatos_kernel import schedules
from byenatos_kernel.schedules import Schedule
from byenatos_sdk.protocol.errors import InvalidRequest

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = "2026-03-28 12:00", "2026-10-24 12:00"
"""Noon before each change: on 29 March 02:00 becomes 03:00, on 25 October 03:00 becomes 02:00."""


def runs(cron: str, since: str, until: str, timezone: str = BERLIN) -> list[str]:
    """When a schedule runs, as its zone's clocks show it."""
    zone = ZoneInfo(timezone)
    at, end = (datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() for text in (since, until))
    schedule = Schedule(cron, timezone)
    found = []
    while (at := schedule.after(at)) <= end:
        found.append(datetime.fromtimestamp(at, zone).strftime("%d %H:%M %z"))
    return found


def test_a_time_that_is_left_out_in_spring_runs_once_right_after_the_change():
    assert runs("30 2 * * *", SPRING, "2026-03-30 12:00") == ["29 03:00 +0200", "30 02:30 +0200"]


def test_a_time_that_comes_twice_in_autumn_runs_once():
    assert runs("30 2 * * *", AUTUMN, "2026-10-26 12:00") == ["25 02:30 +0200", "26 02:30 +0100"]


def test_a_time_before_and_after_the_change_runs_as_on_any_other_day():
    assert runs("0 8 * * *", SPRING, "2026-03-29 12:00") == ["29 08:00 +0200"]
    assert runs("0 8 * * *", AUTUMN, "2026-10-25 12:00") == ["25 08:00 +0100"]
    assert runs("0 3 * * *", AUTUMN, "2026-10-25 12:00") == ["25 03:00 +0100"]


def test_what_runs_every_hour_follows_real_time():
    spring = runs("30 * * * *", "2026-03-29 00:00", "2026-03-29 04:45")
    assert spring == ["29 00:30 +0100", "29 01:30 +0100", "29 03:30 +0200", "29 04:30 +0200"]
    autumn = runs("30 * * * *", "2026-10-25 01:00", "2026-10-25 03:45")
    assert autumn == ["25 01:30 +0200", "25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]


@pytest.mark.parametrize("minute", [35, 45, 59])
def test_asked_within_the_hour_that_comes_again_what_ran_in_the_first_is_not_due_again(minute):
    zone = ZoneInfo(BERLIN)
    again = datetime(2026, 10, 25, 2, minute, tzinfo=zone, fold=1).timestamp()
    due = datetime.fromtimestamp(Schedule("45 2 * * *", BERLIN).after(again), zone)
    assert due == datetime(2026, 10, 26, 2, 45, tzinfo=zone)


def test_an_empty_zone_is_the_machines(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert Schedule("0 9 * * *").after(0.0) == 24 * 3600.0  # the epoch is 09:00 in Tokyo
    monkeypatch.setenv("TZ", "")
    monkeypatch.setattr(schedules, "LOCAL", schedules.Path("/nowhere"))
    assert Schedule("0 9 * * *").after(0.0) == 9 * 3600.0


@pytest.mark.parametrize(
    ("cron", "timezone", "named"),
    [
        ("", "", "cron: expected five fields"),
        ("* * * *", "", "cron: expected five fields"),
        ("0 0 9 * * *", "", "cron: expected five fields"),
        ("61 * * * *", "", "Bad minute"),
        ("0 0 31 2 *", "", "Bad day"),
        ("0 9 * * *", "Mars/Olympus", "timezone: expected a name such as"),
        ("0 9 * * *", "/etc/passwd", "timezone: expected a name such as"),
        ("0 9 * * *", "../../etc/passwd", "timezone: expected a name such as"),
    ],
)
def test_a_line_or_a_zone_that_cannot_be_read_is_refused_by_name(cron, timezone, named):
    with pytest.raises(InvalidRequest, match=named):
        Schedule(cron, timezone)
