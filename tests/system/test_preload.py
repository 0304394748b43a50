"""Drivers whose library is imported once, in a sandboxed template."""

import pytest
from kernel_process import instance_of, signal_driver, until, until_ready
from plugin_folder import write_plugin

from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.errors import ByenatosError

pytestmark = pytest.mark.skipif(
    bool(set(missing()) - {"cgroup"}), reason=f"this machine lacks layers: {', '.join(missing())}"
)

CODE = """
import os
import slow_library
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        yield f"{slow_library.IMPORTED_BY} {os.getpid()}"
"""


def write(home, library):
    write_plugin(home, "cloud", CODE, extra='preload = ["slow_library"]', more={"slow_library.py": library})


async def test_a_driver_finds_its_library_imported_by_another_process_and_is_replaced_when_it_dies(start_kernel, home):
    write(home, "import os\nIMPORTED_BY = os.getpid()\n")
    kernel = start_kernel(default="cloud")
    async with kernel.client() as client:
        status = await until_ready(client)
        first, own = (await client.infer("x")).text.split()
        assert first == "1"
        assert int(own) > 1
        epoch = instance_of(status, "cloud").epoch
        signal_driver(status, "cloud")
        await until(client, lambda status: (one := instance_of(status, "cloud")) and one.epoch > epoch and one.pid)
        await until_ready(client)
        again, other = (await client.infer("x")).text.split()
        assert again == "1"
        assert other != own
    assert kernel.stop() == 0


async def test_a_library_that_cannot_be_imported_fails_the_driver_with_its_reason(start_kernel, home):
    write(home, "raise ImportError('no such engine')\n")
    kernel = start_kernel(default="echo")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(ByenatosError, match="template exited with status 1: ImportError: no such engine"):
            await client.load("cloud")
        assert (await client.infer("hello", extra={"echo": {}})).text
