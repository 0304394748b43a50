"""Triggers with a simulated clock: each kind fires, holds, cools down, does not flap, and finds its way back."""

import tempfile
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from trigger_desk import NOON, TriggerDesk, said

from byenatos_kernel.pressure import Reading
from byenatos_kernel.streams import StreamState
from byenatos_kernel.trigger_rules import Trigger
from byenatos_kernel.trigger_states import TRANSITIONS, Sight, State, Watch, sight_of
from byenatos_sdk.protocol.messages import SwapEvent, SwapState

KINDS = {
    "performance": ("p95_latency_s", "above = 4", lambda desk: desk.answer(6.0), lambda desk: desk.answer(1.0)),
    "resource": ("memory_available_mib", "below = 1000", lambda desk: desk.memory(500), lambda desk: desk.memory(4000)),
    "error": ("error_rate", "above = 0.5", lambda desk: desk.answer(code="unavailable"), lambda desk: desk.answer()),
    "workload": ("queue_depth", "above = 2", lambda desk: crowd(desk, 3), lambda desk: crowd(desk, 1)),
}
"""Each kind that measures: a measure, its bound, and what happens every second while it is bad and while it is well."""


def crowd(desk, waiting):
    desk.live.clear()
    for _ in range(waiting):
        desk.stream(state=StreamState.WAITING)


def trigger(kind, measure, bound, more="", model="small", name="t"):
    return f'name = "{name}"\nkind = "{kind}"\nmodel = "{model}"\nmeasure = "{measure}"\n{bound}\n{more}'


MEMORY = ("resource", "memory_available_mib", "below = 1000\nclear = 2000")
QUICK = "hold_s = 0\ncooldown_s = 60"


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_fires_once_its_measure_held_long_enough_and_swaps_once(tmp_path, kind):
    measure, bound, bad, well = KINDS[kind]
    desk = TriggerDesk(tmp_path, trigger(kind, measure, bound, "hold_s = 10\nwindow_s = 10"))
    await desk.pass_time(30, lambda: well(desk))
    assert (desk.states, desk.model) == (["armed"], "big")
    await desk.pass_time(10, lambda: bad(desk))
    assert (desk.states, desk.swaps) == (["holding"], [])
    await desk.pass_time(30, lambda: bad(desk))
    assert (desk.states, desk.model, len(desk.swaps)) == (["fired"], "small", 1)
    [event] = desk.told
    assert (event.trigger, event.slot, event.model, event.measure) == ("t", "default", "small", measure)
    assert event.reading is not None
    await desk.pass_time(3000, lambda: bad(desk), step=10)
    assert len(desk.swaps) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_no_kind_fires_again_before_its_cool_down_is_over(tmp_path, kind):
    measure, bound, bad, well = KINDS[kind]
    desk = TriggerDesk(tmp_path, trigger(kind, measure, bound, "hold_s = 0\nwindow_s = 5\ncooldown_s = 100"))
    await desk.pass_time(10, lambda: bad(desk))
    [(first, _)] = desk.swaps
    for _ in range(8):
        desk.slots["default"].model = "big"  # somebody swaps back by hand, and all is well for a while
        await desk.pass_time(10, lambda: well(desk))
        await desk.pass_time(10, lambda: bad(desk))
    assert len(desk.swaps) == 2
    assert desk.swaps[1][0] - first >= 100


@pytest.mark.parametrize("kind", KINDS)
async def test_no_kind_flaps_when_its_measure_swings_about_the_bound(tmp_path, kind):
    measure, bound, bad, well = KINDS[kind]
    more = 'hold_s = 5\nwindow_s = 1\nleast_requests = 1\ncooldown_s = 20\nreturn_to = "big"'
    desk = TriggerDesk(tmp_path, trigger(kind, measure, bound, more))
    await desk.pass_time(10, lambda: bad(desk))
    assert desk.model == "small"
    turns = 0

    def swing():
        nonlocal turns
        turns += 1
        (bad if turns // 3 % 2 else well)(desk)

    await desk.pass_time(300, swing)
    assert len(desk.swaps) == 1
    await desk.pass_time(10, lambda: well(desk))
    assert (desk.model, len(desk.swaps)) == ("big", 2)


async def test_a_reading_between_bound_and_clear_neither_fires_nor_arms_again(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'))
    await desk.pass_time(100, lambda: desk.memory(1500))
    assert desk.states == ["armed"]
    await desk.pass_time(1, lambda: desk.memory(900))
    await desk.pass_time(500, lambda: desk.memory(1500))
    assert (desk.states, desk.model) == (["fired"], "small")
    await desk.pass_time(2, lambda: desk.memory(2500))
    assert (desk.states, desk.model) == (["armed"], "big")
    assert said(desk.told) == [("small", False, False, False), ("big", True, False, False)]
    assert [one.bound for one in desk.told] == [1000, 2000]


async def test_the_way_back_waits_for_the_cool_down_and_so_does_the_next_swap(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'))
    bad = True

    def swing():
        nonlocal bad
        bad = not bad
        desk.memory(500 if bad else 4000)

    await desk.pass_time(1000, swing, step=7)
    times = [at for at, _ in desk.swaps]
    assert [model for _, model in desk.swaps[:4]] == ["small", "big", "small", "big"]
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))


async def test_the_way_back_is_not_taken_if_somebody_else_swapped_the_slot_meanwhile(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'))
    await desk.pass_time(1, lambda: desk.memory(500))
    desk.slots["default"].model = "tiny"
    await desk.pass_time(100, lambda: desk.memory(4000))
    assert (desk.states, desk.model, len(desk.swaps)) == (["armed"], "tiny", 1)


async def test_a_trigger_whose_model_is_there_already_does_nothing(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, QUICK))
    desk.slots["default"].model = "small"
    await desk.pass_time(100, lambda: desk.memory(500))
    assert (desk.states, desk.swaps, desk.told) == (["holding"], [], [])


async def test_a_trigger_waits_for_the_swap_that_runs(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, QUICK))
    slot = desk.slots["default"]
    slot.swap = SwapEvent(1, "default", "big", "tiny", "graceful", SwapState.PREPARING, NOON)
    await desk.pass_time(50, lambda: desk.memory(500))
    assert (desk.states, desk.swaps) == (["holding"], [])
    slot.swap = None
    await desk.pass_time(1)
    assert desk.model == "small"


async def test_two_triggers_that_disagree_leave_the_slot_alone_within_the_cool_down(tmp_path):
    down = trigger("resource", "memory_available_mib", "below = 5000", QUICK)
    up = trigger("resource", "memory_available_mib", "above = 100", QUICK, model="big", name="up")
    desk = TriggerDesk(tmp_path, down, up)
    await desk.pass_time(59, lambda: desk.memory(1000))
    assert desk.model == "small"
    await desk.pass_time(300, lambda: desk.memory(1000))
    times = [at for at, _ in desk.swaps]
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))


async def test_a_dry_run_tells_what_it_would_have_done_and_does_nothing(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"\ndry_run = true'))
    await desk.pass_time(100, lambda: desk.memory(500))
    await desk.pass_time(100, lambda: desk.memory(4000))
    assert said(desk.told) == [("small", False, True, False), ("big", True, True, False)]
    assert (desk.swaps, desk.model) == ([], "big")


async def test_a_swap_that_fails_is_told_and_tried_again_after_the_cool_down(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, QUICK))
    desk.refuse()
    await desk.pass_time(59, lambda: desk.memory(500))
    assert said(desk.told) == [("small", False, False, False), ("small", False, False, True)]
    assert desk.triggers.infos()[0].problem == "there is no room for it"
    assert desk.triggers.warnings == ("trigger 't': there is no room for it",)
    desk.failing = None
    await desk.pass_time(10, lambda: desk.memory(500))
    assert (desk.model, len(desk.swaps)) == ("small", 1)
    assert desk.triggers.warnings == ()


async def test_a_way_back_that_fails_is_tried_again_after_the_cool_down(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'))
    await desk.pass_time(1, lambda: desk.memory(500))
    desk.refuse()
    await desk.pass_time(100, lambda: desk.memory(4000))
    assert (desk.model, desk.states) == ("small", ["cooling"])
    desk.failing = None
    await desk.pass_time(60, lambda: desk.memory(4000))
    assert desk.model == "big"


async def test_a_measure_that_cannot_be_read_does_nothing_and_is_told(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, QUICK))
    await desk.pass_time(100)
    assert (desk.states, desk.swaps) == (["armed"], [])
    assert "meminfo cannot be read: No such file or directory" in desk.triggers.warnings[0]


async def test_an_unknown_slot_or_model_is_told(tmp_path):
    lost = trigger(*MEMORY, 'slot = "nowhere"', name="lost")
    desk = TriggerDesk(tmp_path, lost, trigger(*MEMORY, model="none"), trigger(*MEMORY, 'return_to = "gone"', name="r"))
    await desk.pass_time(100, lambda: desk.memory(500))
    assert desk.swaps == [(1011.0, "small")]
    assert [info.problem for info in desk.triggers.infos()] == [
        "there is no slot 'nowhere'; there is default",
        "there is no model 'none'",
        "there is no model 'gone'",
    ]


async def test_triggers_that_are_off_are_listed_and_do_nothing(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, QUICK), on=False)
    desk.triggers.start([])
    [info] = desk.triggers.infos()
    assert (info.state, info.would) == ("off", "swap default to small (graceful)")
    desk.triggers.close()


# ---- schedules -----------------------------------------------------------------------------------------------------

EVENING = 'name = "evening"\nkind = "schedule"\nmodel = "small"\ncron = "0 22 * * *"\ntimezone = "Europe/Berlin"'
MORNING = 'name = "morning"\nkind = "schedule"\nmodel = "big"\ncron = "0 8 * * *"\ntimezone = "Europe/Berlin"'
AT_TWO = 'name = "two"\nkind = "schedule"\nmodel = "small"\ncron = "30 2 * * *"\ntimezone = "Europe/Berlin"'
DAY = 86_400.0


def hour(desk, at):
    return round((desk.wall_at_start + at - 1000.0 - NOON) / 3600, 2)


async def test_a_schedule_fires_at_its_time_and_another_swaps_back(tmp_path):
    desk = TriggerDesk(tmp_path, EVENING, MORNING)
    await desk.pass_time(2 * DAY, step=30)
    assert [(hour(desk, at), model) for at, model in desk.swaps] == [
        (pytest.approx(9, abs=0.01), "small"),  # from noon in UTC
        (pytest.approx(19, abs=0.01), "big"),
        (pytest.approx(33, abs=0.01), "small"),
        (pytest.approx(43, abs=0.01), "big"),
    ]
    assert {one.reading for one in desk.told} == {None}


@pytest.mark.parametrize(
    ("noon_before", "hours"),
    [(1_774_699_200.0, [13.0, 36.5]), (1_792_843_200.0, [12.5, 37.5])],  # 28 March and 24 October 2026, 12:00 UTC
    ids=["spring", "autumn"],
)
async def test_when_clocks_are_changed_a_schedule_at_half_past_two_swaps_once_a_day(tmp_path, noon_before, hours):
    desk = TriggerDesk(tmp_path, AT_TWO, start_at=noon_before)

    def by_hand():
        desk.slots["default"].model = "big"

    await desk.pass_time(2 * DAY, by_hand, step=60)
    assert [round((at - 1000) / 3600, 1) for at, _ in desk.swaps] == hours


async def test_a_schedule_does_not_fire_within_its_cool_down(tmp_path):
    minutely = AT_TWO.replace("30 2 * * *", "* * * * *") + "\ncooldown_s = 600"
    desk = TriggerDesk(tmp_path, minutely)

    def by_hand():
        desk.slots["default"].model = "big"

    await desk.pass_time(3600, by_hand, step=10)
    times = [at for at, _ in desk.swaps]
    assert len(times) == 6
    assert all(later - earlier >= 600 for earlier, later in pairwise(times))


async def test_a_schedule_that_was_slept_through_is_not_made_up_for(tmp_path):
    desk = TriggerDesk(tmp_path, EVENING)
    await desk.pass_time(60)
    desk.now += 12 * 3600  # the machine slept until half past midnight
    await desk.pass_time(60)
    assert desk.swaps == []
    [info] = desk.triggers.infos()
    assert info.next_at == NOON + 33 * 3600


async def test_a_schedule_waits_for_the_swap_that_runs(tmp_path):
    desk = TriggerDesk(tmp_path, EVENING)
    slot = desk.slots["default"]
    slot.swap = SwapEvent(1, "default", "big", "tiny", "graceful", SwapState.PREPARING, NOON)
    await desk.pass_time(9 * 3600 + 120, step=10)
    assert desk.states == ["holding"]
    slot.swap = None
    await desk.pass_time(10, step=10)
    assert desk.model == "small"


async def test_a_clock_that_is_set_back_brings_the_schedule_nearer_again(tmp_path):
    desk = TriggerDesk(tmp_path, EVENING, start_at=NOON + 10 * DAY)
    await desk.pass_time(1)
    desk.wall_at_start = NOON
    await desk.pass_time(10 * 3600, step=60)
    assert desk.model == "small"


# ---- the operator's file, and a kernel that is started anew ---------------------------------------------------------


async def test_a_change_of_the_file_counts_at_once_and_a_trigger_of_the_same_aim_stays_where_it_stands(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'))
    await desk.pass_time(1, lambda: desk.memory(500))
    desk.write(trigger("resource", "memory_available_mib", "below = 300", f'{QUICK}\nreturn_to = "big"'), EVENING)
    await desk.pass_time(1)
    assert desk.states == ["cooling", "armed"]
    await desk.pass_time(60)
    assert desk.model == "big"
    desk.write()
    await desk.pass_time(1)
    assert desk.triggers.infos() == []


def swapped(target, cause, at):
    return SwapEvent(1, "default", "big", target, "graceful", SwapState.RETIRED, at, cause=cause)


async def test_after_a_restart_a_trigger_that_had_fired_still_finds_its_way_back(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, 'hold_s = 0\ncooldown_s = 100\nreturn_to = "big"'))
    desk.slots["default"].model = "small"
    desk.triggers.start([swapped("small", "t", NOON - 40)])
    assert desk.states == ["fired"]
    await desk.pass_time(59, lambda: desk.memory(4000))
    assert desk.model == "small"
    await desk.pass_time(2, lambda: desk.memory(4000))
    assert desk.model == "big"
    desk.triggers.close()


@pytest.mark.parametrize(
    "history",
    [[], [swapped("small", "manual", NOON)], [swapped("tiny", "manual", NOON), swapped("small", "t", NOON - 10)]],
    ids=["none", "by hand", "by hand since"],
)
async def test_after_a_restart_what_a_person_swapped_stays(tmp_path, history):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'))
    desk.slots["default"].model = history[0].target if history else "big"
    before = desk.model
    desk.triggers.start(history)
    await desk.pass_time(200, lambda: desk.memory(4000))
    assert (desk.model, desk.swaps) == (before, [])
    desk.triggers.close()


# ---- the table -----------------------------------------------------------------------------------------------------


def test_every_state_is_left_and_reached():
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert all(state is not following for (state, _), following in TRANSITIONS.items())


@pytest.mark.parametrize(
    ("bounds", "value", "sight"),
    [
        ({"above": 8.0, "clear": 4.0}, 8.5, Sight.BREACHED),
        ({"above": 8.0, "clear": 4.0}, 8.0, Sight.BETWEEN),
        ({"above": 8.0, "clear": 4.0}, 4.0, Sight.CLEARED),
        ({"above": 8.0}, 8.0, Sight.CLEARED),
        ({"below": 4.0, "clear": 8.0}, 3.5, Sight.BREACHED),
        ({"below": 4.0, "clear": 8.0}, 4.0, Sight.BETWEEN),
        ({"below": 4.0, "clear": 8.0}, 8.0, Sight.CLEARED),
        ({"below": 4.0}, None, Sight.CLEARED),
    ],
)
def test_what_a_reading_means(bounds, value, sight):
    one = Trigger("t", "resource", "small", measure="cpu_pressure", **bounds)
    assert sight_of(one, Reading(value)) is sight
    assert sight_of(one, Reading(value, "it cannot be read")) is Sight.UNREADABLE


@given(
    st.lists(st.tuples(st.sampled_from(Sight), st.floats(0.1, 50), st.booleans(), st.booleans()), max_size=60),
    st.sampled_from([0.0, 5.0, 30.0]),
    st.sampled_from([0.0, 20.0, 100.0]),
)
def test_a_watch_does_nothing_within_its_cool_down_and_fires_once_for_each_time_it_was_cleared(
    steps, hold_s, cooldown_s
):
    one = Trigger("t", "resource", "small", measure="cpu_pressure", above=1.0, hold_s=hold_s, cooldown_s=cooldown_s)
    watch, now, last, cleared, fired = Watch(one, 0.0), 0.0, float("-inf"), True, False
    for sight, passed, free, returns in steps:
        now += passed
        cleared = cleared or sight is Sight.CLEARED
        action = watch.see(sight, now, free=free)
        if action == "nothing":
            continue
        assert free
        assert action == ("rearm" if fired else "fire")
        fired = not fired
        if action == "fire":
            assert sight is Sight.BREACHED
            assert cleared
            cleared = False
        if action == "fire" or returns:
            assert now - last >= cooldown_s
            last = now
            watch.acted(now)


_numbers = st.integers(0, 3000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(_numbers, st.sampled_from([1, 5, 30])), max_size=40),
    st.lists(
        st.fixed_dictionaries(
            {
                "above": st.booleans(),
                "bound": st.integers(500, 2500),
                "slack": st.integers(0, 500),
                "hold_s": st.sampled_from([0, 3, 20]),
                "cooldown_s": st.sampled_from([0, 10, 60]),
                "model": st.sampled_from(["small", "tiny", "big"]),
                "back": st.booleans(),
            }
        ),
        min_size=1,
        max_size=3,
    ),
    st.sets(st.integers(0, 40)),
)
def test_whatever_the_readings_a_slot_is_never_swapped_twice_within_the_cool_down(run, steps, rules, failures):
    async def simulate(folder):
        written = []
        for number, rule in enumerate(rules):
            side, sign = ("above", -1) if rule["above"] else ("below", 1)
            back = next(one for one in ("big", "small") if one != rule["model"])
            written.append(
                trigger(
                    "resource",
                    "memory_available_mib",
                    f"{side} = {rule['bound']}\nclear = {rule['bound'] + sign * rule['slack']}",
                    f"hold_s = {rule['hold_s']}\ncooldown_s = {rule['cooldown_s']}\n"
                    + (f'return_to = "{back}"' if rule["back"] else ""),
                    model=rule["model"],
                    name=f"t{number}",
                )
            )
        desk = TriggerDesk(folder, *written)
        for number, (mib, passed) in enumerate(steps):
            desk.failing = None
            if number in failures:
                desk.refuse()
            await desk.pass_time(passed, lambda mib=mib: desk.memory(mib))
        begun = [one for one in desk.told if not one.problem]
        for earlier, later in pairwise(begun):
            cooldown_s = next(one.cooldown_s for one in desk.policy if one.name == later.trigger)
            assert later.at - earlier.at >= cooldown_s

    with tempfile.TemporaryDirectory() as folder:
        run(simulate(Path(folder)))


# ---- what each measure measures ------------------------------------------------------------------------------------


async def read(tmp_path, kind, measure, happen, more=""):
    desk = TriggerDesk(tmp_path, trigger(kind, measure, "above = 1000000", more))
    desk.triggers.look()
    happen(desk)
    return desk.measures.read(desk.policy[0])


async def test_performance_is_of_answers_in_the_window_and_of_enough_of_them(tmp_path):
    def happen(desk):
        desk.answer(100.0)
        desk.now += 61
        for took_s in (1.0, 2.0, 3.0, 4.0):
            desk.answer(took_s, first_s=took_s / 2, tokens=20)
        desk.answer(50.0, code="unavailable")

    async def value(measure, least):
        return (await read(tmp_path, "performance", measure, happen, f"least_requests = {least}")).value

    assert await value("p95_latency_s", 4) == 4.0
    assert await value("first_token_p95_s", 4) == 2.0
    assert await value("tokens_per_s", 4) == pytest.approx(20 / 1.0)
    assert await value("p95_latency_s", 5) is None


async def test_what_the_model_before_did_counts_no_more(tmp_path):
    def happen(desk):
        for _ in range(5):
            desk.answer(9.0)
            desk.crash()
        desk.slots["default"].model = "small"

    assert (await read(tmp_path, "performance", "p95_latency_s", happen)).value is None
    assert (await read(tmp_path, "error", "crashes", happen)).value == 0


async def test_errors_are_the_models_and_not_those_of_whoever_asked(tmp_path):
    def happen(desk):
        for code in ("", "", "", "driver_crashed", "cancelled", "invalid_request", "content_filtered"):
            desk.answer(code=code)

    assert (await read(tmp_path, "error", "error_rate", happen, "least_requests = 4")).value == 0.25
    assert (await read(tmp_path, "error", "error_rate", happen, "least_requests = 5")).value is None


async def test_crashes_are_those_in_the_window(tmp_path):
    def happen(desk):
        desk.crash()
        desk.now += 61
        desk.crash()
        desk.crash()

    assert (await read(tmp_path, "error", "crashes", happen)).value == 2


async def test_workload_is_what_runs_and_waits_and_what_was_asked(tmp_path):
    def happen(desk):
        for number in range(8):
            state = StreamState.WAITING if number < 3 else StreamState.RUNNING
            desk.stream(state=state, task="code" if number % 4 == 0 else "", tokens=9000 if number % 2 == 0 else 10)

    assert (await read(tmp_path, "workload", "queue_depth", happen)).value == 3
    assert (await read(tmp_path, "workload", "running", happen)).value == 5
    assert (await read(tmp_path, "workload", "task_share", happen, 'task = "code"')).value == 0.25
    assert (await read(tmp_path, "workload", "long_context_share", happen)).value == 0.5
    assert (await read(tmp_path, "workload", "long_context_share", happen, "long_tokens = 10000")).value == 0


async def test_requests_are_looked_into_only_while_a_trigger_asks_for_it(tmp_path):
    desk = TriggerDesk(tmp_path, trigger("workload", "running", "above = 1"))
    desk.triggers.look()
    desk.stream(task="code")
    assert desk.arrivals.since("default", 0) == []
    desk.write(trigger("workload", "task_share", "above = 0.5", 'task = "code"'))
    desk.triggers.look()
    stream = desk.stream(task="code")
    stream.body = b"\xc1"
    desk.arrivals.opened(stream)
    assert [one.task for one in desk.arrivals.since("default", 0)] == ["code", ""]
    desk.write()
    desk.triggers.look()
    assert desk.arrivals.since("default", 0) == []


async def test_a_list_of_triggers_says_what_each_would_do_and_when(tmp_path):
    desk = TriggerDesk(tmp_path, trigger(*MEMORY, f'{QUICK}\nreturn_to = "big"'), EVENING)
    await desk.pass_time(1, lambda: desk.memory(500))
    memory, evening = desk.triggers.infos()
    assert (memory.reading, memory.below, memory.clear) == (500, 1000, 2000)
    assert (memory.fired_at, memory.next_at) == (NOON + 1, NOON + 61)
    assert memory.would == "swap default back to big"
    assert (evening.next_at, evening.fired_at) == (NOON + 9 * 3600, 0)
    assert msgspec.json.encode(memory)
