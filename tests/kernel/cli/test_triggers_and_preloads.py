"""``byenatos triggers`` and ``byenatos models preload|usage`` against a real kernel, and how a trigger is told of."""

import json
import time
from collections.abc import Iterator

import msgspec
import pytest

from byenatos_kernel.cli.events import describe_trigger
from byenatos_kernel.cli.power import start_detached, stop
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import InstanceInfo, TriggerFired, TriggerInfo, UsageReport

WITHIN_S = 30.0
CONFIG = {"llm_driver_config": {"default_model": "echo", "auto_optimization": True}}
TRIGGERS = """
[[triggers]]
name = "plenty"
kind = "resource"
measure = "memory_available_mib"
above = 0
clear = 0
hold_s = 0
model = "echo-two"
dry_run = true
[[triggers]]
name = "night"
kind = "schedule"
cron = "0 22 * * *"
model = "echo-two"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose kernel runs, with a trigger that only says what it would do, and one for the night."""
    home = Home(tmp_path_factory.mktemp("k"))
    home.config.write_text(json.dumps(CONFIG))
    home.policies.mkdir(parents=True)
    (home.policies / "swap.toml").write_text(TRIGGERS)
    start_detached(home, wait_s=WITHIN_S)
    yield home
    stop(home, wait_s=WITHIN_S)


def lines_of(run, *command: str) -> list[str]:
    outcome = run(*command)
    assert outcome.code == 0, outcome
    return outcome.out.splitlines()


def test_triggers_are_listed_with_where_they_stand_and_what_they_would_do(run):
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = msgspec.json.decode(run("triggers", "--json").out, type=list[TriggerInfo])
        if found[0].state == "fired":
            break
        assert time.monotonic() < deadline, found
    plenty, night = found
    assert plenty.reading > plenty.above == 0
    assert (plenty.dry_run, night.state, night.next_at > time.time()) == (True, "armed", True)
    heading, first, second = lines_of(run, "triggers")
    assert heading.split() == ["TRIGGER", "KIND", "STATE", "READING", "BOUND", "FIRED", "NEXT", "WOULD"]
    assert first.split()[:3] == ["plenty", "resource", "fired"]
    assert "(dry run)" in first
    assert "> 0, again at 0" in first
    assert second.endswith("swap default to echo-two (graceful)")
    assert run("swaps", "--json").out.strip() == "[]"


def test_a_model_is_preloaded_and_usage_says_so(run):
    deadline = time.monotonic() + WITHIN_S
    while (answer := run("ask", "hello")).code:
        assert time.monotonic() < deadline, answer
    info = msgspec.json.decode(run("models", "preload", "echo-two", "--json").out, type=InstanceInfo)
    assert (info.model, info.state.value) == ("echo-two", "ready")
    assert "echo-two is preloaded: driver echo" in run("models", "preload", "echo-two").out
    run("ask", "--model", "echo-two", "hello")
    report = msgspec.json.decode(run("models", "usage", "--json").out, type=UsageReport)
    assert (report.weeks, report.automatic, report.least_share) == (4, False, 0.2)
    said = lines_of(run, "models", "usage")
    assert "of the last 4 weeks and this one:" in said[0]
    assert said[-1].startswith("models of at least 20% are worth preloading; that is off: ")
    assert [line.split()[0] for line in said[2:-1]] == [one.model for one in report.models]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "trigger slow swaps default to small: p95_latency_s is 9.5, bound 8"),
        ({"dry_run": True}, "trigger slow would swap default to small: p95_latency_s is 9.5, bound 8"),
        ({"returning": True}, "trigger slow swaps default back to small: p95_latency_s is 9.5, bound 8"),
        ({"problem": "there is no room"}, "trigger slow could not swap default to small: there is no room"),
        ({"measure": "", "reading": None, "bound": None}, "trigger slow swaps default to small"),
    ],
)
def test_an_event_says_what_a_trigger_does_and_why(more, line):
    event = TriggerFired(1.0, "slow", "default", "small", "p95_latency_s", 9.5, 8.0)
    assert describe_trigger(msgspec.structs.replace(event, **more)) == line
