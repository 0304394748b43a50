"""What driver authors test a vendor's driver with: it sees what the broker would refuse."""

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
