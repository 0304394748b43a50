"""The control methods: loading, unloading, slots, events, and settings of the configuration that are in force."""

import asyncio
import signal

import pytest
from kernel_process import counting, instance_of, numbers, signal_driver, slot_of, until, until_ready, write_config
from plugin_folder import write_plugin

from byenatos_sdk.protocol.control import InstanceChanged, SwapAdvanced
from byenatos_sdk.protocol.errors import DeadlineExceeded, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import InstanceState


async def test_a_model_is_loaded_beside_the_slot_and_unloaded_again(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        loaded = await client.load("echo-two")
        assert loaded.state is InstanceState.READY
        assert (await client.infer("x", model="echo-two", extra=counting(3))).model == "echo-two"
        await client.unload("echo-two")
        await until(client, lambda status: [one.model for one in status.instances] == ["echo"])
        with pytest.raises(NotFound):
            await client.unload("echo-two")


async def test_a_model_that_is_loaded_twice_has_one_process(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        first, second = await asyncio.gather(client.load("echo-two"), client.load("echo-two"))
        assert first.epoch == second.epoch
        assert len((await client.status()).instances) == 2


async def test_a_slot_is_made_by_load_and_is_still_there_after_a_restart(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.load("echo-two", slot="coder")
        assert (await client.infer("x", model="coder", extra=counting(3))).model == "echo-two"
    kernel.stop()
    async with start_kernel().client() as client:
        await until_ready(client, "default", "coder")
        assert (await client.infer("x", model="coder", extra=counting(3))).model == "echo-two"


@pytest.mark.parametrize("slot", ["", "x" * 65, "new\nline", "\x00"])
async def test_a_bad_name_for_a_slot_is_refused(start_kernel, slot):
    async with start_kernel().client() as client:
        await until_ready(client)
        with pytest.raises(InvalidRequest, match="slot"):
            await client.load("echo-two", slot=slot)
        assert [one.name for one in await client.slots()] == ["default"]


async def test_load_does_not_rebind_a_slot_and_says_what_does(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        with pytest.raises(InvalidRequest, match="swap default echo-two"):
            await client.load("echo-two", slot="default")
        assert slot_of(await client.status()).model == "echo"


async def test_a_model_that_serves_a_slot_is_not_unloaded(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        with pytest.raises(InvalidRequest, match="slot default"):
            await client.unload("echo")
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_an_unloaded_model_finishes_the_streams_that_it_has(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        await client.load("echo-two")
        stream = client.stream("count", model="echo-two", extra=counting(60, 100))
        await anext(stream)
        await client.unload("echo-two")
        assert (await stream.response()).text == numbers(60)
        await until(client, lambda status: [one.model for one in status.instances] == ["echo"])


async def test_events_tell_of_instances_and_swaps_in_order(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as watcher:
        await until_ready(client)
        async with watcher.events() as events:
            await watcher.status()
            swap = asyncio.create_task(client.swap("default", "echo-two"))
            states = {"echo": [], "echo-two": [], "swap": []}
            async for event in events:
                if isinstance(event, InstanceChanged):
                    states[event.instance.model].append(event.instance.state.value)
                if isinstance(event, SwapAdvanced):
                    states["swap"].append(event.swap.state.value)
                    if event.swap.state.value == "retired":
                        break
            await swap
        assert states["echo-two"] == ["verified", "starting", "ready"]
        assert states["echo"] == ["draining", "retired"]
        assert states["swap"] == ["requested", "validated", "preparing", "prepared", "switched", "draining", "retired"]


async def test_a_subscriber_that_does_not_read_is_dropped_and_harms_nobody(start_kernel, raw, home):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        peer = raw()
        peer.hello()
        peer.call(1, "events")
        before = kernel.rss
        for number in range(150):
            (home.models / f"{number}.txt").write_text("x")
        await client.load("echo-two")
        await client.unload("echo-two")
        assert kernel.rss - before < 8 << 20
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_status_tells_what_there_is(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.infer("count", extra=counting(5))
        status = await client.status()
        assert status.pid == kernel.pid
        assert status.home == str(kernel.home.path)
        assert (status.requests, status.deltas, status.clients, status.streams) == (1, 5, 1, 0)
        assert {plugin.id for plugin in status.plugins} >= {"echo", "llamacpp"}


async def test_a_key_that_is_not_in_force_yet_is_told_of(start_kernel):
    async with start_kernel(load_balance_strategy="even").client() as client:
        assert any("load_balance_strategy" in warning for warning in (await client.status()).warnings)


async def test_the_configured_defaults_of_a_model_reach_its_driver_and_its_requests(start_kernel, home):
    code = "from byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n    async def infer(self, request):\n"
    code += "        if request.messages[-1].text == 'wait': await __import__('asyncio').Event().wait()\n"
    code += "        yield f'{request.sampling.max_tokens} {request.sampling.temperature} {self.settings}'\n"
    write_plugin(home, "witness", code)
    write_config(home, default="witness")
    text = home.config.read_text().replace(
        '"model_config": []',
        '"model_config": {"model_id": "witness", "vendor": "witness", "max_tokens": 7, "temperature": 0.25, '
        '"timeout": 0.4, "settings": {"key": 1}}',
    )
    home.config.write_text(text)
    kernel = start_kernel(configured=False)
    async with kernel.client() as client:
        await until_ready(client)
        assert (await client.infer("x")).text == "7 0.25 {'key': 1}"
        assert (await client.infer("x", max_tokens=3, temperature=1.0)).text == "3 1.0 {'key': 1}"
        with pytest.raises(DeadlineExceeded):
            await client.infer("wait")


async def test_a_driver_that_says_it_is_not_well_is_degraded_until_it_is(start_kernel, home):
    code = "import asyncio, signal\nfrom byenatos_sdk.driver import Driver\n"
    code += "from byenatos_sdk.protocol.messages import ModelHealthStatus\n"
    code += "class Plugin(Driver):\n    ill = False\n    async def start(self, model):\n"
    code += "        loop = asyncio.get_running_loop()\n"
    code += "        loop.add_signal_handler(signal.SIGUSR1, setattr, self, 'ill', True)\n"
    code += "        loop.add_signal_handler(signal.SIGUSR2, setattr, self, 'ill', False)\n"
    code += "    async def health(self):\n"
    code += "        return ModelHealthStatus('degraded', 'a cold') if self.ill else ModelHealthStatus()\n"
    code += "    async def infer(self, request):\n        yield 'x'\n"
    write_plugin(home, "sickly", code)
    async with start_kernel(default="sickly", health_check_interval=0.1).client() as client:
        signal_driver(await until_ready(client), "sickly", signal.SIGUSR1)
        status = await until(client, lambda status: instance_of(status, "sickly").state is InstanceState.DEGRADED)
        assert instance_of(status, "sickly").detail == "a cold"
        assert (await client.infer("x")).text == "x"
        signal_driver(status, "sickly", signal.SIGUSR2)
        await until(client, lambda status: instance_of(status, "sickly").state is InstanceState.READY)


async def test_a_kernel_whose_socket_file_was_removed_serves_those_that_are_connected_and_stops_well(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        kernel.home.socket.unlink()
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)
        assert await asyncio.to_thread(kernel.stop) == 0
