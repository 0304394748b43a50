"""What driver authors test a vendor's driver with: it sees what the broker would refuse."""

import sys

import pytest

from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.protocol.errors import RateLimited
from byenatos_sdk.protocol.messages import InferenceRequest, user
from byenatos_sdk.testing import PlayedVendor

DRIVER = """
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.http import HTTPDriver

class Acme(HTTPDriver):
    format = openai_chat
    base_url = "https://api.acme.test/v1"
"""
MANIFEST = """
[plugin]
id = "acme"
version = "1"
entry = "driver:Acme"
[[egress]]
host = "api.acme.test"
paths = ["/v1/"]
key = { secret = "acme", header = "authorization", prefix = "Bearer " }
[[models]]
id = "acme-1"
settings = { model = "acme/one" }
"""
ASKED = InferenceRequest((user("hello"),))
WHOLE = WireResponse(b'{"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}')


@pytest.fixture
def play(tmp_path):
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "driver.py").write_text(DRIVER)
    (folder / "plugin.toml").write_text(MANIFEST)
    return lambda **settings: PlayedVendor(folder, "acme-1", settings)


def test_a_driver_is_asked_and_what_it_asked_is_kept(play):
    vendor = play()
    assert vendor.answer(ASKED, WHOLE)[0] == "Hi"
    assert vendor.answer(ASKED, WHOLE)[0] == "Hi"
    assert [(one.method, one.path) for one in vendor.requests] == [("POST", "/v1/chat/completions")] * 2
    assert b'"acme/one"' in vendor.requests[0].body


def test_what_the_driver_raises_is_raised(play):
    with pytest.raises(RateLimited):
        play().answer(ASKED, WireResponse(b'{"error": {"message": "slowly"}}', 429))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "https://api.acme.test/v2"}, "found /v2/chat/completions"),
        ({"base_url": "https://elsewhere.test/v1"}, "manifest asks for at elsewhere.test"),
        ({"headers": {"authorization": "Bearer sk-1"}}, "expected no key"),
    ],
)
def test_what_the_broker_would_refuse_fails(play, settings, said):
    with pytest.raises(AssertionError, match=said):
        play(**settings).answer(ASKED, WHOLE)


def test_a_method_that_the_manifest_does_not_ask_for_fails(play, tmp_path):
    manifest = tmp_path / "acme" / "plugin.toml"
    play()
    manifest.write_text(MANIFEST.replace('paths = ["/v1/"]', 'paths = ["/v1/"]\nmethods = ["GET"]'))
    with pytest.raises(AssertionError, match=r"a method that acme's manifest asks for .* found POST"):
        PlayedVendor(tmp_path / "acme", "acme-1").answer(ASKED, WHOLE)


def test_a_path_that_only_begins_like_one_of_the_manifest_fails(play, tmp_path):
    manifest = tmp_path / "acme" / "plugin.toml"
    play()
    manifest.write_text(MANIFEST.replace("/v1/", "/v1/chat/comp"))
    with pytest.raises(AssertionError, match="expected a path that acme's manifest asks for"):
        PlayedVendor(tmp_path / "acme", "acme-1").answer(ASKED, WHOLE)


def test_modules_beside_the_driver_and_packages_in_vendor_are_this_plugins_own(tmp_path):
    said = []
    for number in (1, 2):
        folder = tmp_path / f"acme{number}"
        (folder / "vendor").mkdir(parents=True)
        (folder / "driver.py").write_text("import names\n" + DRIVER.replace('"https://api.acme.test/v1"', "names.BASE"))
        (folder / "names.py").write_text("import hosts\nBASE = hosts.HOST + '/v1'\n")
        (folder / "vendor" / "hosts.py").write_text(f"HOST = 'https://api{number}.acme.test'\n")
        host = f"api{number}.acme.test"
        (folder / "plugin.toml").write_text(
            MANIFEST.replace("api.acme.test", host).replace('"acme"', f'"acme{number}"')
        )
        vendor = PlayedVendor(folder, "acme-1")
        vendor.answer(ASKED, WHOLE)
        said.append(vendor.requests[0].headers["host"])
    assert said == ["api1.acme.test", "api2.acme.test"]
    assert not {"driver", "names", "hosts"} & sys.modules.keys()


LIBRARY = """
import asyncio
import httpx
from byenatos_sdk import Driver
from byenatos_sdk.egress import async_transport, transport

class Acme(Driver):
    async def infer(self, request):
        async with httpx.AsyncClient(transport=async_transport(), base_url="https://api.acme.test") as client:
            yield (await client.post("/v1/a", headers={"authorization": "Bearer -"})).text
        with httpx.Client(transport=transport(), base_url="https://api.acme.test") as client:
            yield client.post("/v1/b").text
"""


def test_a_driver_that_asks_by_a_library_is_answered_too(tmp_path):
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "driver.py").write_text(LIBRARY)
    (folder / "plugin.toml").write_text(MANIFEST)
    vendor = PlayedVendor(folder, "acme-1")
    assert vendor.answer(ASKED, WireResponse(b"one"), WireResponse(b"two")) == ["one", "two"]
    assert [one.path for one in vendor.requests] == ["/v1/a", "/v1/b"]
