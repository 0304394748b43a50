"""A request with a large picture in it, on its whole way: what it costs the processes that it passes through."""

import os
from pathlib import Path

import msgspec
import psutil
import pytest
from kernel_process import KernelProcess, until_ready, write_config
from mock_vendor import MockVendor, Script
from plugin_folder import write_plugin

from byenatos_sdk.formats.media import to_base64
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.messages import Image, Message, Text

PICTURE = 20 << 20
"""Bytes of the picture; in JSON it is a third longer."""

ACME = """
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.http import HTTPDriver

class Plugin(HTTPDriver):
    format = openai_chat
    base_url = "https://api.acme.test/v1"
"""
MANIFEST = '\n[[egress]]\nhost = "api.acme.test"\npaths = ["/v1/"]\n'
ACCESS = '[plugins]\nunsigned = true\n[drivers.acme]\nnetwork = ["api.acme.test:443"]\nca = "{ca}"\n'
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "a picture"}, "finish_reason": "stop"}


@pytest.fixture(params=[False, True], ids=["http/1.1", "http/2"])
def vendor(request):
    with MockVendor("api.acme.test", http2=request.param) as vendor:
        yield vendor


def most(pid):
    """The most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


async def test_a_picture_of_20_mib_costs_the_broker_nothing_and_the_driver_twice_its_size(vendor, tmp_path):
    home = Home(tmp_path / "home")
    write_config(home, default="acme")
    home.access.write_text(ACCESS.format(ca=vendor.trust(tmp_path / "ca.pem")))
    write_plugin(home, "acme", ACME, extra=MANIFEST)
    kernel = KernelProcess(home, environment=vendor.environment)
    try:
        async with kernel.client() as client:
            await until_ready(client)
            vendor.queue(*[Script.json({"choices": [CHOICE]})] * 2)
            await client.infer("hello")
            (driver,) = (one.pid for one in (await client.status()).instances)
            brokers = [
                one for one in psutil.Process(kernel.pid).children() if "byenatos_sandbox.broker" in one.cmdline()
            ]
            brokers += [child for one in brokers for child in one.children()]
            before = {pid: most(pid) for pid in (driver, *(one.pid for one in brokers))}
            picture = os.urandom(PICTURE)
            response = await client.infer([Message("user", (Text("What is it?"), Image("image/png", picture)))])
            assert response.text == "a picture"
            grown = {pid: most(pid) - size for pid, size in before.items()}
        (part,) = (
            part
            for part in msgspec.json.decode(vendor.requests[-1].body)["messages"][0]["content"]
            if part["type"] == "image_url"
        )
        assert part["image_url"]["url"].endswith(to_base64(picture))
        assert grown.pop(driver) < 2.5 * PICTURE  # the frame and the picture; its base64 is made as it leaves
        assert max(grown.values()) < PICTURE / 4
    finally:
        kernel.clean_up()
