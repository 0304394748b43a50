"""The driver manager: how many, how often, and when a driver is given up."""

import asyncio

import pytest
from scripted_driver import ScriptedDriver

from byenatos_kernel import link
from byenatos_kernel.heartbeats import BLOCKED_S, DEAD_S, SILENT_S
from byenatos_sandbox import LaunchError, NotIsolated
from byenatos_sdk.protocol.control import DriverFailed, DriverRestarting
from byenatos_sdk.protocol.errors import DriverCrashed, NotFound, Overloaded
from byenatos_sdk.protocol.messages import InstanceState


async def test_so_many_models_and_for_a_swap_one_more(rig):
    async with rig({"main": "a"}, most_models=1) as kernel:
        with pytest.raises(Overloaded, match=r"1 models are loaded \(a\) and max_concurrent_models is 1"):
            kernel.drivers.load(kernel.registry.model("b"))
        kernel.drivers.load(kernel.registry.model("b"), overlap=1)
        with pytest.raises(Overloaded):
            kernel.drivers.load(kernel.registry.model("c"), overlap=1)


async def test_a_crash_is_published_and_restarted_with_a_new_epoch(rig):
    async with rig() as kernel:
        await kernel.settle()
        unit = kernel.routes.slots["main"].unit
        kernel.driver("a").exit(7)
        await kernel.settle()
        assert unit.restart is not None
        failed = next(event for event in kernel.events if isinstance(event, DriverFailed))
        assert (failed.epoch, failed.reason, failed.last_output) == (1, "exited with status 7", ("last words",))
        assert any(isinstance(event, DriverRestarting) and event.crashes == 1 for event in kernel.events)
        unit.restart.cancel()
        kernel.drivers._restart(unit)
        await kernel.settle()
        assert unit.ready.epoch == 2


async def test_a_model_that_never_loaded_is_not_tried_again(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        kernel.driver("b").load_fails("not_found")
        with pytest.raises(NotFound, match="cannot be loaded"):
            await unit.until_ready()
        await kernel.settle()
        assert unit.restart is None
        kernel.drivers.drop(unit)
        assert not kernel.drivers.units


async def test_a_driver_that_may_not_run_here_is_not_tried_again(rig):
    async with rig({}) as kernel:
        await kernel.settle()
        unit = kernel.drivers.load(kernel.registry.model("b"), supervised=True)
        await kernel.settle()
        driver = kernel.driver("b")
        driver.refusal = NotIsolated.of("scripted/b", {"network": "a datagram could be sent"})
        driver.exit(9)
        await kernel.settle()
        assert unit.restart is None
        with pytest.raises(NotIsolated, match="a datagram could be sent"):
            await unit.until_ready()
        assert not any(isinstance(event, DriverRestarting) for event in kernel.events)


async def test_clients_see_how_a_serving_instance_is_isolated(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver = kernel.driver("a")
        driver.lacking, driver.open = {"cgroup": "missing: none is delegated"}, {"resources": "no bound"}
        info = kernel.instance("a").info
        assert (info.template, info.layers, info.open) == ("one-shot", driver.lacking, driver.open)
        kernel.drivers.kill_all()
        await kernel.settle()
        assert not kernel.drivers.instances


async def test_a_hopeless_model_is_given_up_though_it_is_wanted(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"), supervised=True)
        await kernel.settle()
        kernel.driver("b").load_fails("invalid_request")
        await kernel.settle()
        assert unit.dead
        assert unit.restart is None


async def test_a_process_that_cannot_be_started_is_an_error_like_any_other(rig, monkeypatch):
    async with rig({}) as kernel:

        def launch(*_: object, **__: object) -> ScriptedDriver:
            raise LaunchError("no processes left")

        with monkeypatch.context() as patch:  # undone before the rig takes back its own
            patch.setattr(link, "launch", launch)
            unit = kernel.drivers.load(kernel.registry.model("b"))
            kernel.drivers.release(unit)
            with pytest.raises(LaunchError, match="no processes left"):
                await kernel.drivers.load(kernel.registry.model("c")).until_ready()
            await kernel.settle()
            assert unit.gone.is_set()


async def test_the_fifth_crash_quarantines(rig):
    async with rig() as kernel:
        await kernel.settle()
        unit = kernel.routes.slots["main"].unit
        for _ in range(4):
            kernel.driver("a").exit()
            await kernel.settle()
            unit.restart.cancel()
            kernel.drivers._restart(unit)
            await kernel.settle()
        instance = kernel.instance("a")
        kernel.driver("a").exit()
        await kernel.settle()
        assert instance.state is InstanceState.QUARANTINED
        with pytest.raises(DriverCrashed, match="quarantined; `byenatos models load a` tries again"):
            await unit.until_ready()
        number = kernel.open("main")
        await kernel.settle()
        assert kernel.terminal(number).code == "unavailable"


def sweep(kernel) -> None:
    kernel.drivers.heartbeats.close()
    kernel.drivers.heartbeats._swept_at = asyncio.get_running_loop().time() - 0.1
    kernel.drivers.heartbeats._sweep()


async def test_silence_degrades_then_kills_and_a_beat_in_time_heals(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        instance.last_seen -= SILENT_S + 0.1
        sweep(kernel)
        assert instance.state is InstanceState.DEGRADED
        driver.beat()
        await kernel.settle()
        sweep(kernel)
        assert instance.state is InstanceState.READY
        instance.last_seen -= DEAD_S + 0.1
        sweep(kernel)
        await kernel.settle()
        assert not driver.alive
        assert "hung: no heartbeat" in instance.reason


async def test_a_blocked_loop_is_a_hang_only_while_somebody_waits_for_it(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.beat(int(BLOCKED_S * 1000) + 1)
        await kernel.settle()
        sweep(kernel)
        assert instance.serving
        kernel.open("main")
        await kernel.settle()
        sweep(kernel)
        await kernel.settle()
        assert not driver.alive


async def test_a_kernel_that_was_held_up_itself_blames_nobody(rig):
    async with rig() as kernel:
        await kernel.settle()
        instance = kernel.instance("a")
        instance.last_seen -= 100
        kernel.drivers.heartbeats.close()
        kernel.drivers.heartbeats._swept_at = asyncio.get_running_loop().time() - 100
        kernel.drivers.heartbeats._sweep()
        assert instance.state is InstanceState.READY


async def test_closing_stops_every_process_the_unwilling_too(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await kernel.settle()
        stubborn = kernel.driver("b")
        stubborn.obedient = False
        await kernel.drivers.close(0.01)
        assert not kernel.alive
        assert all(driver.closed for driver in kernel.drivers_made)
