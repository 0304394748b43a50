"""Renewals: reload, upgrade and rollback of what runs, all or nothing."""

import asyncio
from unittest import mock

import pytest
from kernel_rig import Rig, manifest

from byenatos_kernel.swap_policy import MemoryRules, ProbationRules, SwapPolicy, SwapRules
from byenatos_kernel.units import PRELOADED
from byenatos_sdk.protocol.control import DriverRequest, LoadRequest, ReloadRequest
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.messages import Finish, SwapRequest, SwapState

KEEP = SwapPolicy(SwapRules(keep_old_s=600.0), probation=ProbationRules(least_requests=2))
UPGRADE = DriverRequest("scripted")


def write(kernel, version):
    """Put a version of the driver into its folder."""
    folder = kernel.shelf.folders[0] / "scripted"
    (folder / "plugin.toml").write_text(manifest({}, {}).replace('version = "1"', f'version = "{version}"'))


async def staged(kernel, version="2"):
    """A new version of the driver is verified, beside the one that runs."""
    await kernel.settle()
    write(kernel, version)
    kernel.shelf.scan()
    await kernel.shelf.verified()
    assert kernel.registry.plugins["scripted"].verdict.version == version


def versions(kernel):
    """What serves each slot and each model that an operator keeps: model and version of the driver."""
    found = {slot.name: slot.unit for slot in kernel.routes.slots.values() if slot.unit is not None}
    found |= {f"pinned {unit.model.id}": unit for unit in kernel.drivers.units if unit.pinned}
    return {name: (unit.model.id, unit.plugin.verdict.version) for name, unit in found.items()}


def models(kernel):
    return sorted(driver.model for driver in kernel.alive)


def load_fails_for(kernel, model, *, fails=True):
    """From now on ``model`` cannot be loaded by a process that starts, or never is; all others obey."""
    launch = kernel._launch

    def launched(grant, **options):
        kernel.obedient = not grant.name.endswith(f"/{model}")
        driver = launch(grant, **options)
        if fails and not kernel.obedient:
            asyncio.get_running_loop().create_task(fail(driver))
        return driver

    async def fail(driver):
        while driver.load is None:
            await asyncio.sleep(0)
        driver.load_fails()

    kernel._seam.stop()
    kernel._seam = mock.patch("byenatos_kernel.link.launch", launched)
    kernel._seam.start()


# ---- reload ----------------------------------------------------------------------------------------------------


async def test_a_reload_gives_every_slot_of_a_model_and_whoever_keeps_it_one_new_process(rig):
    async with rig({"main": "a", "side": "a", "other": "b"}) as kernel:
        await kernel.settle()
        await kernel.supply.load(LoadRequest("a"))
        old = kernel.driver("a")
        done = await kernel.renewals.reload(ReloadRequest("a"))
        assert (done.driver, done.version, done.models) == ("scripted", "1", ("a",))
        assert done.slots == ("main", "side")
        await kernel.settle()
        assert models(kernel) == ["a", "b"]
        assert kernel.driver("a") is not old
        assert versions(kernel) == {
            "main": ("a", "1"), "side": ("a", "1"), "other": ("b", "1"), "pinned a": ("a", "1"),
        }  # fmt: skip
        assert {event.cause for event in await kernel.swaps.history()} == {"reload"}


async def test_a_reload_takes_a_new_process_while_the_one_before_is_still_kept(rig):
    async with rig() as kernel:
        kernel.policy = KEEP
        await kernel.settle()
        for _ in range(2):
            await kernel.renewals.reload(ReloadRequest("a"))
            await kernel.settle()
        assert len({driver.pid for driver in kernel.drivers_made if driver.load is None and driver.model == "a"}) == 3
        assert models(kernel) == ["a", "a"]


async def test_a_model_that_cannot_be_loaded_again_serves_as_before(rig):
    async with rig() as kernel:
        await kernel.settle()
        before = kernel.driver("a")
        load_fails_for(kernel, "a")
        with pytest.raises(ByenatosError, match="this model cannot be loaded"):
            await kernel.renewals.reload(ReloadRequest("a"))
        await kernel.settle()
        assert kernel.alive == [before]
        assert kernel.routes.slots["main"].unit.ready


async def test_a_model_that_is_not_loaded_cannot_be_reloaded(rig):
    async with rig() as kernel:
        await kernel.settle()
        with pytest.raises(NotFound, match="c is not loaded"):
            await kernel.renewals.reload(ReloadRequest("c"))


# ---- upgrade ---------------------------------------------------------------------------------------------------


async def test_an_upgrade_exchanges_all_that_runs_of_the_driver(rig):
    async with rig({"main": "a", "side": "b"}, fallback="c") as kernel:
        await staged(kernel)
        assert {version for _, version in versions(kernel).values()} == {"1"}
        done = await kernel.renewals.upgrade(UPGRADE)
        assert (done.version, set(done.models), set(done.slots)) == ("2", {"a", "b", "c"}, {"main", "side"})
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "2"), "side": ("b", "2"), "pinned c": ("c", "2")}
        assert models(kernel) == ["a", "b", "c"]
        assert kernel.supply.fallback().plugin.verdict.version == "2"
        assert (await kernel.renewals.upgrade(UPGRADE)).models == ()


async def test_a_version_under_which_one_model_cannot_be_loaded_never_counts_and_all_go_back(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await staged(kernel)
        load_fails_for(kernel, "b")
        with pytest.raises(Unavailable, match=r"scripted 2 is refused: b: .*1 runs as before"):
            await kernel.renewals.upgrade(UPGRADE)
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1"), "side": ("b", "1")}
        assert models(kernel) == ["a", "b"]
        assert kernel.registry.plugins["scripted"].verdict.version == "1"
        with pytest.raises(Unavailable, match="version 2 is refused: b: "):
            await kernel.renewals.upgrade(UPGRADE)


async def test_what_is_gone_back_to_is_what_ran_and_not_a_version_that_was_only_staged(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await staged(kernel, "2")
        await staged(kernel, "3")
        load_fails_for(kernel, "b")
        with pytest.raises(Unavailable, match=r"scripted 3 is refused: .*; 1 runs as before"):
            await kernel.renewals.upgrade(UPGRADE)
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1"), "side": ("b", "1")}


async def test_what_an_operator_keeps_loaded_is_tried_out_as_well(rig):
    async with rig() as kernel:
        await kernel.settle()
        await kernel.supply.load(LoadRequest("b"))
        await staged(kernel)
        load_fails_for(kernel, "b")
        with pytest.raises(Unavailable, match="scripted 2 is refused"):
            await kernel.renewals.upgrade(UPGRADE)
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1"), "pinned b": ("b", "1")}
        assert models(kernel) == ["a", "b"]


async def test_models_go_back_to_the_kept_processes_of_the_old_version(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        kernel.policy = KEEP
        await staged(kernel)
        before = kernel.driver("a")
        load_fails_for(kernel, "b")
        with pytest.raises(Unavailable):
            await kernel.renewals.upgrade(UPGRADE)
        assert kernel.routes.slots["main"].unit.instance.process is before


async def test_a_version_that_is_rolled_back_in_its_probation_is_refused_and_all_models_go_back(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        kernel.policy = KEEP
        await staged(kernel)
        await kernel.renewals.upgrade(UPGRADE)
        assert {version for _, version in versions(kernel).values()} == {"2"}
        for _ in range(2):
            kernel.open("main")
            await kernel.settle()
            driver = kernel.routes.slots["main"].unit.instance.process
            driver.break_down(*driver.streams)
            await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1"), "side": ("b", "1")}
        assert "a failed 2 of 2 requests" in kernel.registry.plugins["scripted"].held
        assert "is refused" in kernel.registry.plugins["scripted"].held


async def test_an_operator_who_takes_one_slot_back_refuses_no_version(rig):
    async with rig() as kernel:
        kernel.policy = KEEP
        await staged(kernel)
        await kernel.renewals.upgrade(UPGRADE)
        await kernel.swaps.back("main")
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1")}
        assert not kernel.registry.plugins["scripted"].held


async def test_a_slot_that_is_being_swapped_stops_an_upgrade_and_refuses_nothing(rig):
    async with rig() as kernel:
        await staged(kernel)
        kernel.obedient = False
        swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
        await kernel.settle()
        with pytest.raises(InvalidRequest, match="is being swapped to b"):
            await kernel.renewals.upgrade(UPGRADE)
        assert not kernel.registry.plugins["scripted"].held
        await kernel.comes_up("b")
        await swap


async def test_only_one_renewal_of_a_driver_at_a_time(rig):
    async with rig() as kernel:
        await staged(kernel)
        kernel.obedient = False
        first = asyncio.create_task(kernel.renewals.upgrade(UPGRADE))
        await kernel.settle()
        with pytest.raises(InvalidRequest, match="wait until that is over"):
            await kernel.renewals.roll_back(UPGRADE)
        first.cancel()  # whoever asked leaves; it comes to its end
        await kernel.comes_up("a")
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "2")}


async def test_an_unknown_driver_is_not_upgraded(rig):
    async with rig() as kernel:
        await kernel.settle()
        with pytest.raises(NotFound, match="there is scripted"):
            await kernel.renewals.upgrade(DriverRequest("nothing"))


async def test_a_kernel_that_is_killed_while_it_tries_a_version_out_comes_back_with_the_one_before(tmp_path):
    kernel = Rig(tmp_path, {"main": "a", "side": "b"})
    await kernel.start()
    await staged(kernel)
    load_fails_for(kernel, "b", fails=False)
    upgrade = asyncio.create_task(kernel.renewals.upgrade(UPGRADE))
    while versions(kernel)["main"] != ("a", "2"):
        await asyncio.sleep(0)
    await kernel.settle()
    kernel.kill()
    upgrade.cancel()
    await asyncio.gather(upgrade, return_exceptions=True)
    again = Rig(tmp_path, {"main": "a", "side": "b"})
    write(again, "2")
    try:
        await again.start()
        await again.settle()
        assert versions(again) == {"main": ("a", "1"), "side": ("b", "1")}
        assert "was being tried out when the kernel stopped" in again.registry.plugins["scripted"].held
        assert (await again.renewals.upgrade(UPGRADE)).version == "2"
        assert versions(again) == {"main": ("a", "2"), "side": ("b", "2")}
    finally:
        again.kill()
        await asyncio.sleep(0)


# ---- rollback --------------------------------------------------------------------------------------------------


async def test_a_rollback_brings_the_version_before_and_holds_the_newer_one_until_the_next_upgrade(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await staged(kernel)
        await kernel.renewals.upgrade(UPGRADE)
        done = await kernel.renewals.roll_back(UPGRADE)
        assert (done.version, set(done.slots)) == ("1", {"main", "side"})
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1"), "side": ("b", "1")}
        held = kernel.registry.plugins["scripted"].held
        assert held == "version 2 was rolled back by the operator; 1 runs instead"
        await kernel.swaps.swap(SwapRequest("main", "c"))
        assert versions(kernel)["main"] == ("c", "1")
        assert (await kernel.renewals.upgrade(UPGRADE)).version == "2"
        await kernel.settle()
        assert versions(kernel) == {"main": ("c", "2"), "side": ("b", "2")}


async def test_a_rollback_to_what_cannot_be_loaded_any_more_changes_nothing(rig):
    async with rig() as kernel:
        await staged(kernel)
        await kernel.renewals.upgrade(UPGRADE)
        await kernel.settle()
        load_fails_for(kernel, "a")
        with pytest.raises(Unavailable, match=r"scripted 1 cannot serve: .*; 2 goes on"):
            await kernel.renewals.roll_back(UPGRADE)
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "2")}
        assert not kernel.registry.plugins["scripted"].held


async def test_there_is_nothing_to_roll_back_to_before_the_first_upgrade(rig):
    async with rig() as kernel:
        await kernel.settle()
        with pytest.raises(NotFound, match="expected a version before 1, found none"):
            await kernel.renewals.roll_back(UPGRADE)


async def test_running_answers_outlive_an_upgrade_and_a_rollback(rig):
    async with rig() as kernel:
        await staged(kernel)
        number = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        await kernel.renewals.upgrade(UPGRADE)
        await kernel.renewals.roll_back(UPGRADE)
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")
        assert {event.state for event in await kernel.swaps.history()} == {SwapState.RETIRED}


# ---- what nobody uses just now, and what comes meanwhile ---------------------------------------------------------


async def preloaded(kernel, model):
    """Load a model without a slot, as the preloading does."""
    await kernel.settle()
    unit = kernel.drivers.load(kernel.registry.model(model))
    unit.slots.add(PRELOADED)
    await kernel.settle()
    return unit


async def test_a_preloaded_model_is_exchanged_as_well_and_stays_preloaded(rig):
    async with rig() as kernel:
        old = await preloaded(kernel, "b")
        await staged(kernel)
        assert (await kernel.renewals.upgrade(UPGRADE)).models == ("a", "b")
        await kernel.settle()
        assert models(kernel) == ["a", "b"]
        new = kernel.drivers.find("b")
        assert new is not old
        assert new.slots == {PRELOADED}
        await kernel.swaps.swap(SwapRequest("main", "b"))
        assert versions(kernel) == {"main": ("b", "2")}


async def test_a_preloaded_model_is_reloaded(rig):
    async with rig() as kernel:
        old = await preloaded(kernel, "b")
        await kernel.renewals.reload(ReloadRequest("b"))
        await kernel.settle()
        assert old.gone.is_set()
        assert kernel.drivers.find("b").slots == {PRELOADED}


async def test_a_preloaded_model_of_which_there_is_no_room_for_two_does_not_stop_an_upgrade(rig):
    async with rig(memory_mib={"b": 300}) as kernel:
        await preloaded(kernel, "b")
        kernel.policy = SwapPolicy(SwapRules(keep_old_s=0.0), memory=MemoryRules(budget_mib=500))
        await staged(kernel)
        await kernel.renewals.upgrade(UPGRADE)
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "2")}
        assert models(kernel) == ["a"]


async def upgrade_while_the_third_is_staged(kernel):
    """Begin to upgrade to the second version, and have the third one verified while the first model loads."""
    await staged(kernel)
    kernel.obedient = False
    upgrade = asyncio.create_task(kernel.renewals.upgrade(UPGRADE))
    await kernel.settle()
    kernel.obedient = True
    write(kernel, "3")
    kernel.shelf.scan()
    await kernel.shelf.verified()
    return upgrade


async def test_a_version_that_is_staged_during_an_upgrade_is_not_mixed_in(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        upgrade = await upgrade_while_the_third_is_staged(kernel)
        await kernel.comes_up("a")
        assert (await upgrade).version == "2"
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "2"), "side": ("b", "2")}
        assert (await kernel.renewals.upgrade(UPGRADE)).version == "3"
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "3"), "side": ("b", "3")}


async def test_a_version_that_is_staged_during_an_upgrade_is_not_taken_for_the_one_before(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        upgrade = await upgrade_while_the_third_is_staged(kernel)
        kernel.driver("a").load_fails()
        with pytest.raises(Unavailable, match=r"scripted 2 is refused: .*; 1 runs as before"):
            await upgrade
        await kernel.settle()
        assert versions(kernel) == {"main": ("a", "1"), "side": ("b", "1")}
        assert (await kernel.renewals.upgrade(UPGRADE)).version == "3"
