"""Models that are loaded once, in a template, in a running kernel: crashes, swaps and unloading."""

import os
import signal
from pathlib import Path

import pytest
from kernel_process import instance_of, signal_driver, until, until_ready
from plugin_folder import write_plugin

from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.control import DriverRestarting

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}")

CODE = """
import os, threading
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    @classmethod
    def preload(cls, model):
        return os.urandom(8).hex()
    async def start(self, model):
        self.model = model
    async def infer(self, request):
        yield f"{self.model.preloaded} {os.getpid()}"
"""


@pytest.fixture
def serving(home, start_kernel):
    """A kernel whose default slot is served by a driver that says what was preloaded for it."""

    def start(code=CODE, default="ahead"):
        write_plugin(home, "ahead", code, extra="preload_model = true")
        return start_kernel(default=default)

    return start


async def loaded(client) -> str:
    return (await client.infer("x", model="ahead")).text.split()[0]


def template_of(status) -> int:
    lines = Path(f"/proc/{instance_of(status, 'ahead').pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))


async def test_a_crashed_process_is_replaced_at_once_by_a_fork_of_what_was_loaded(serving):
    kernel = serving()
    async with kernel.client() as client:
        status = await until_ready(client)
        before, instance = await loaded(client), instance_of(status, "ahead")
        assert instance.template == "warm"
        async with client.events() as events:
            signal_driver(status, "ahead")
            async for event in events:
                if isinstance(event, DriverRestarting):
                    assert event.delay_s == 0
                    break
        await until(client, lambda status: (one := instance_of(status, "ahead")) and one.epoch > instance.epoch)
        await until_ready(client)
        assert await loaded(client) == before


async def test_with_its_template_a_process_ends_and_another_template_is_made(serving):
    kernel = serving()
    async with kernel.client() as client:
        status = await until_ready(client)
        before, epoch = await loaded(client), instance_of(status, "ahead").epoch
        os.kill(template_of(status), signal.SIGKILL)
        await until(client, lambda status: (one := instance_of(status, "ahead")) and one.epoch > epoch)
        await until_ready(client)
        assert await loaded(client) not in {before, "None"}


async def test_a_swap_back_finds_the_model_loaded_and_unloading_ends_the_template(serving):
    kernel = serving()
    async with kernel.client() as client:
        status = await until_ready(client)
        before, template = await loaded(client), os.pidfd_open(template_of(status))
        await client.swap("default", "echo", until="retired")
        await client.swap("default", "ahead", until="retired")
        assert await loaded(client) == before
        await client.swap("default", "echo", until="retired")
        await client.load("ahead")
        assert await loaded(client) == before
        await client.unload("ahead")
        await until(client, lambda _: _gone(template))
        os.close(template)


def _gone(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_model_whose_template_fails_is_loaded_all_the_same(serving):
    code = CODE.replace(
        "return os.urandom(8).hex()", "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    kernel = serving(code)
    async with kernel.client() as client:
        status = await until_ready(client)
        assert await loaded(client) == "None"
        assert instance_of(status, "ahead").template == "one-shot"
        assert instance_of(status, "ahead").restarts == 1
    assert "a fork copies only one" in kernel.log
