"""The driver of whoever speaks OpenAI's Chat Completions, against the dialects that it knows."""

from tests.vendor_contract import ListingVendorContract, listed_as_openai_does

LISTED = listed_as_openai_does("x")


class TestDeepSeek(ListingVendorContract):
    model = "deepseek-v4-flash"
    path = "/v1/chat/completions"
    says = {"model": "deepseek-v4-flash", "max_tokens": 50, "stream": True}
    stream = "openai_chat/stream-reasoning-content"
    error = "openai_chat/err-401"
    listed = LISTED


class TestAnyServer(ListingVendorContract):
    model = "lm-studio"
    settings = {"model": "their/name"}
    path = "/v1/chat/completions"
    says = {"model": "their/name", "temperature": 0.5, "stream": True}
    stream = "openai_chat/stream-text"
    error = "openai_chat/err-html-502"
    listed = LISTED
