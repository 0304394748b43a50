"""Models that are preloaded by hand or by the history, and let go when nobody wants them."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from byenatos_kernel.preloads import AHEAD_S, RETRY_S, Preloads
from byenatos_kernel.swap_policy import PreloadRules
from byenatos_kernel.units import PRELOADED
from byenatos_kernel.usage import UsageHistory
from byenatos_sdk.protocol.control import LoadRequest, Named, UnloadRequest
from byenatos_sdk.protocol.errors import NotFound, Overloaded, Unavailable
from byenatos_sdk.protocol.messages import Failure, SwapRequest

NINE = 1_772_442_000.0
"""2026-03-02 09:00 UTC, a Monday."""


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Desk:
    """Preloading over a kernel's parts, with clocks of its own."""

    def __init__(self, kernel, rules):
        self.kernel = kernel
        self.rules = rules
        self.now = 0.0
        self.history = UsageHistory(kernel.database, kernel.registry.models.__contains__, lambda: NINE + self.now)
        self.preloads = Preloads(
            kernel.drivers,
            kernel.registry,
            self.history,
            lambda: self.rules,
            None,
            kernel.swaps.try_out,
            clock=lambda: self.now,
            wall=lambda: NINE + self.now,
        )
        kernel.drivers.room.evictors.append(self.preloads.give_up)
        kernel.switchboard.on_ended.extend((self.history.ended, self.preloads.ended))

    async def pass_time(self, seconds):
        self.now += seconds
        await self.preloads.look()
        await self.kernel.settle()

    async def ask(self, model, times=1):
        """Ask for a model that serves no slot, loaded or not."""
        for _ in range(times):
            number = self.kernel.open(model)
            await self.kernel.settle(3)
            for driver in self.kernel.alive:
                for stream in list(driver.streams):
                    driver.finish(stream)
            await self.kernel.settle(3)
            assert self.kernel.terminal(number) is not None

    @property
    def loaded(self):
        return sorted(driver.model for driver in self.kernel.alive)


@pytest.fixture
def desk(rig):
    @asynccontextmanager
    async def make(*, most_models=9, **rules):
        async with rig(most_models=most_models) as kernel:
            await kernel.settle()
            yield Desk(kernel, PreloadRules(**rules))

    return make


async def test_a_model_is_preloaded_by_hand_and_a_swap_to_it_starts_nothing(desk):
    async with desk() as one:
        info = await one.preloads.preload(Named("b"))
        assert (info.model, info.state.value) == ("b", "ready")
        made = len(one.kernel.drivers_made)
        await one.kernel.swaps.swap(SwapRequest("main", "b"))
        assert len(one.kernel.drivers_made) == made
        assert one.kernel.routes.slots["main"].model == "b"


async def test_what_nobody_used_for_long_goes_and_what_is_used_stays(desk):
    async with desk(idle_s=900) as one:
        await one.preloads.preload(Named("b"))
        await one.preloads.preload(Named("c"))
        await one.pass_time(600)
        await one.ask("b")
        await one.pass_time(600)
        assert one.loaded == ["a", "b"]
        await one.pass_time(600)
        assert one.loaded == ["a"]


async def test_what_a_slot_or_an_operator_wants_besides_is_not_let_go(desk):
    async with desk(idle_s=60) as one:
        await one.preloads.preload(Named("b"))
        await one.preloads.preload(Named("c"))
        await one.kernel.supply.load(LoadRequest("b"))
        await one.kernel.swaps.swap(SwapRequest("main", "c"))
        for _ in range(5):
            await one.pass_time(100)
        assert one.loaded == ["b", "c"]
        assert not one.preloads.give_up()
        await one.kernel.swaps.swap(SwapRequest("main", "a"))
        await one.pass_time(59)
        assert one.loaded == ["a", "b", "c"]
        await one.pass_time(2)
        assert one.loaded == ["a", "b"]


async def test_a_model_with_a_running_answer_is_not_idle(desk):
    async with desk(idle_s=60) as one:
        await one.preloads.preload(Named("b"))
        number = one.kernel.open("b")
        await one.kernel.settle()
        for _ in range(3):
            await one.pass_time(100)
        assert one.loaded == ["a", "b"]
        assert not one.preloads.give_up()
        assert one.kernel.terminal(number) is None


async def test_an_unloaded_model_goes_at_once(desk):
    async with desk() as one:
        await one.preloads.preload(Named("b"))
        one.kernel.supply.unload(UnloadRequest("b"))
        await one.kernel.settle()
        assert one.loaded == ["a"]
        with pytest.raises(NotFound):
            await one.preloads.preload(Named("none"))


async def test_a_preloaded_model_makes_room_for_one_that_is_wanted_the_least_likely_first(desk):
    async with desk(most_models=3) as one:
        await one.ask("b", 3)
        await one.ask("c", 1)
        await one.preloads.look()
        await one.preloads.preload(Named("b"))
        await one.preloads.preload(Named("c"))
        one.now += 1
        with pytest.raises(NotFound):
            await one.kernel.supply.load(LoadRequest("none"))
        unit = one.kernel.drivers.find("c")
        assert one.preloads.give_up()
        await one.kernel.settle()
        assert unit.gone.is_set()
        assert one.loaded == ["a", "b"]


async def test_a_load_that_finds_no_room_takes_that_of_a_preloaded_model(desk):
    async with desk(most_models=2) as one:
        await one.preloads.preload(Named("b"))
        await one.kernel.supply.load(LoadRequest("c"))
        await one.kernel.settle()
        assert one.loaded == ["a", "c"]
        with pytest.raises(Overloaded, match="max_concurrent_models is 2"):
            await one.preloads.preload(Named("b"))


async def test_a_model_that_cannot_be_loaded_is_not_kept(desk):
    async with desk() as one:
        one.kernel.obedient = False
        waiting = asyncio.ensure_future(one.preloads.preload(Named("b")))
        await one.kernel.settle()
        one.kernel.driver("b").load_fails()
        with pytest.raises(Unavailable, match="cannot be loaded"):
            await waiting
        await one.kernel.settle()
        assert one.kernel.drivers.find("b") is None


# ---- by the history ------------------------------------------------------------------------------------------------

WEEK = 7 * 86_400.0


async def test_a_likely_model_is_loaded_before_its_hour_and_stays_while_it_is_likely(desk):
    async with desk(automatic=True, likely=0.4, idle_s=60) as one:
        await one.ask("b", 2)
        await one.ask("c", 1)
        await one.pass_time(WEEK - AHEAD_S - 60)
        assert one.loaded == ["a"]
        await one.pass_time(60)
        assert one.loaded == ["a", "b"]
        for _ in range(4):
            await one.pass_time(600)
        assert one.loaded == ["a", "b"]
        await one.pass_time(3600)
        assert one.loaded == ["a"]


async def test_without_automatic_the_history_loads_nothing_and_says_what_it_would(desk):
    async with desk(likely=0.4) as one:
        await one.ask("b", 3)
        await one.ask("c", 1)
        await one.pass_time(WEEK)
        assert one.loaded == ["a"]
        report = await one.preloads.report()
        assert (report.hour, report.working, report.automatic, report.least_share) == (9, True, False, 0.4)
        assert [(model.model, model.requests, model.share, model.likely) for model in report.models] == [
            ("b", 3, 0.75, True),
            ("c", 1, 0.25, False),
        ]


async def test_a_likelier_model_takes_the_place_of_a_less_likely_one_but_of_none_that_was_preloaded_by_hand(desk):
    async with desk(automatic=True, likely=0.1, most_models=2) as one:
        await one.ask("c", 1)
        await one.pass_time(60)
        assert one.loaded == ["a", "c"]
        await one.ask("b", 5)
        await one.pass_time(60)
        assert one.loaded == ["a", "b"]
        await one.ask("c", 3)
        await one.pass_time(60)
        assert one.loaded == ["a", "b"]
        await one.preloads.preload(Named("c"))
        await one.kernel.settle()
        await one.pass_time(60)
        assert one.loaded == ["a", "c"]


async def test_a_likely_model_that_cannot_be_loaded_is_left_alone_for_a_while(desk):
    async with desk(automatic=True) as one:
        one.kernel.obedient = False
        await one.ask("b")
        await one.pass_time(1)
        made = len(one.kernel.drivers_made)
        one.kernel.driver("b").load_fails()
        await one.kernel.settle()
        for _ in range(5):
            await one.pass_time(RETRY_S / 6)
        assert len(one.kernel.drivers_made) == made
        await one.pass_time(RETRY_S / 6)
        assert len(one.kernel.drivers_made) == made + 1


async def test_a_preloaded_model_that_died_for_good_is_forgotten(desk):
    async with desk() as one:
        await one.preloads.preload(Named("b"))
        unit = one.kernel.drivers.find("b")
        unit.supervised = False
        one.kernel.driver("b").exit()
        await one.kernel.settle()
        assert unit.dead
        await one.pass_time(60)
        assert unit not in one.kernel.drivers.units
        assert PRELOADED not in unit.slots


async def test_a_request_for_a_model_that_is_not_loaded_is_refused_and_counted(desk):
    async with desk() as one:
        number = one.kernel.open("b")
        await one.kernel.settle()
        assert isinstance(one.kernel.terminal(number), Failure)
        assert [model.model for model in (await one.preloads.report()).models] == ["b"]
