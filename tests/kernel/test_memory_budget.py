"""The memory budget: what is let in, what is refused with which figures, and what has to go first."""

import asyncio

import pytest

from byenatos_kernel.memory_budget import MemoryNeed
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.swap_policy import MemoryRules, SwapPolicy
from byenatos_sdk.protocol.control import LoadRequest
from byenatos_sdk.protocol.errors import Overloaded, Unavailable
from byenatos_sdk.protocol.messages import ModelSpecification, SwapRequest

MIB = 1 << 20


def limit(kernel, mib):
    kernel.policy = SwapPolicy(kernel.policy.swap, MemoryRules(mib))


def keep(kernel, unit, name="(kept by swap 1)"):
    """Keep a unit as probation does: reserved, and given up by an evictor."""
    unit.slots.add(name)

    def evict():
        if name not in unit.slots:
            return False
        unit.slots.discard(name)
        kernel.drivers.release(unit)
        return True

    kernel.drivers.room.evictors.append(evict)


@pytest.mark.parametrize(
    ("specification", "need"),
    [
        (None, (0, 0)),
        (ModelSpecification("m"), (0, 0)),
        (ModelSpecification("m", size_bytes=70), (0, 70)),
        (ModelSpecification("m", size_bytes=70, memory_bytes=100), (70, 30)),
        (ModelSpecification("m", size_bytes=70, memory_bytes=50), (0, 50)),
        (ModelSpecification("m", memory_bytes=100), (0, 100)),
        (ModelSpecification("m", size_bytes=-5, memory_bytes=-5), (0, 0)),
    ],
)
def test_a_file_is_shared_by_the_processes_of_its_model_and_the_rest_is_each_ones_own(specification, need):
    model = ModelEntry("m", "driver")
    model.specification = specification
    found = MemoryNeed.of(model)
    assert (found.shared, found.private) == need


async def test_a_model_that_does_not_fit_is_refused_with_all_figures(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60, "b": 50}) as kernel:
        await kernel.settle()
        limit(kernel, 100)
        with pytest.raises(Overloaded) as refused:
            await kernel.supply.load(LoadRequest("b"))
        assert refused.value.message == (
            "b takes 50 MiB of memory, and 40 MiB are left of the 100 MiB of [memory] budget_mib in swap.toml; "
            "loaded: a (60 MiB)"
        )
        limit(kernel, 110)
        assert (await kernel.supply.load(LoadRequest("b"))).model == "b"


async def test_without_a_budget_the_machines_free_memory_counts(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60, "b": 50}) as kernel:
        await kernel.settle()
        kernel.free_bytes = 49 * MIB
        with pytest.raises(Overloaded, match="49 MiB are left free on this machine"):
            await kernel.supply.load(LoadRequest("b"))
        kernel.free_bytes = 50 * MIB
        assert (await kernel.supply.load(LoadRequest("b"))).model == "b"


async def test_what_a_model_will_take_counts_while_it_is_still_being_loaded(rig):
    async with rig({}, memory_mib={"a": 60, "b": 50}) as kernel:
        kernel.free_bytes = 100 * MIB
        kernel.obedient = False
        first = asyncio.create_task(kernel.supply.load(LoadRequest("a")))
        await kernel.settle()
        with pytest.raises(Overloaded, match="40 MiB are left free on this machine; loaded: a"):
            await kernel.supply.load(LoadRequest("b"))
        await kernel.comes_up("a")
        await first


async def test_a_slot_whose_model_does_not_fit_says_so(rig):
    async with rig({"main": "a", "side": "b"}, memory_mib={"a": 1 << 21}) as kernel:
        assert "a takes 2097152 MiB" in kernel.routes.slots["main"].detail
        assert kernel.routes.slots["side"].unit is not None


async def test_a_model_without_a_need_is_never_refused_for_memory(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60}) as kernel:
        await kernel.settle()
        limit(kernel, 10)
        assert (await kernel.supply.load(LoadRequest("b"))).model == "b"


async def test_what_is_only_kept_goes_before_anything_is_refused(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60, "b": 40, "c": 40}) as kernel:
        await kernel.supply.load(LoadRequest("b"))
        kept = kernel.drivers.find("b")
        kept.pinned = False
        keep(kernel, kept)
        limit(kernel, 100)
        assert kernel.drivers.room.evictable(kernel.registry.model("c")) == [kept]
        assert (await kernel.supply.load(LoadRequest("c"))).model == "c"
        assert kept.gone.is_set()
        assert {driver.model for driver in kernel.alive} == {"a", "c"}


async def test_nothing_that_is_kept_goes_in_vain(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60, "b": 30, "c": 50}) as kernel:
        await kernel.supply.load(LoadRequest("b"))
        kept = kernel.drivers.find("b")
        kept.pinned = False
        keep(kernel, kept)
        limit(kernel, 100)
        with pytest.raises(Overloaded, match="10 MiB are left"):
            await kernel.supply.load(LoadRequest("c"))
        assert kept.ready


async def test_what_a_swap_keeps_does_not_count_as_a_model_and_what_was_preloaded_does(rig):
    async with rig({"main": "a"}, most_models=2) as kernel:
        await kernel.supply.load(LoadRequest("b"))
        other = kernel.drivers.find("b")
        other.pinned = False
        other.slots.add("(kept by swap 1)")
        assert not kernel.drivers.room.lack(kernel.registry.model("c"))
        other.slots = {"(preloaded)"}
        assert "2 models are loaded (a, b)" in kernel.drivers.room.lack(kernel.registry.model("c"))
        other.slots = {"(preloaded)", "side"}
        assert kernel.drivers.room.evictable(kernel.registry.model("c")) == []


async def test_a_load_waits_for_what_is_being_stopped(rig):
    async with rig({"main": "a"}, memory_mib={"a": 10, "b": 60, "c": 60}) as kernel:
        await kernel.supply.load(LoadRequest("b"))
        limit(kernel, 100)
        leaving = kernel.driver("b")
        leaving.obedient = False
        unit = kernel.drivers.find("b")
        unit.pinned = False
        kernel.drivers.release(unit)
        load = asyncio.create_task(kernel.supply.load(LoadRequest("c")))
        await kernel.settle()
        assert not load.done()
        leaving.exit(0)
        assert (await load).model == "c"


async def test_a_swap_needs_room_for_both_models_while_they_overlap(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60, "b": 30}) as kernel:
        await kernel.settle()
        limit(kernel, 90)
        event = await kernel.swaps.swap(SwapRequest("main", "b", until="retired"))
        assert event.mode == "overlap"
        assert [driver.model for driver in kernel.alive] == ["b"]


async def test_a_refused_model_is_refused_for_its_own_reason_and_evicts_nothing(rig):
    async with rig({"main": "a"}, memory_mib={"a": 60, "b": 60, "c": 60}) as kernel:
        await kernel.supply.load(LoadRequest("b"))
        kept = kernel.drivers.find("b")
        kept.pinned = False
        keep(kernel, kept)
        limit(kernel, 120)
        kernel.registry.model("c").state = "refused"
        with pytest.raises(Unavailable, match="c is refused"):
            await kernel.supply.load(LoadRequest("c"))
        assert kept.ready


async def test_a_driver_that_says_that_it_takes_everything_keeps_nobody_out(rig):
    async with rig({"main": "a"}, memory_mib={"b": 50}) as kernel:
        await kernel.settle()
        said = ModelSpecification("a", size_bytes=1 << 50, memory_bytes=(1 << 50) + MIB)
        kernel.registry.model("a").specification = said
        kernel.free_bytes = 60 * MIB
        assert (await kernel.supply.load(LoadRequest("b"))).model == "b"
