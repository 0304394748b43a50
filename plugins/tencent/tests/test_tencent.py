"""Tencent's driver against what TokenHub answers."""

from tests.vendor_contract import ListingVendorContract, listed_as_openai_does


class TestTokenHub(ListingVendorContract):
    model = "hy4"
    path = "/v1/chat/completions"
    says = {"model": "hy4", "temperature": 0.5, "stream": True}
    stream = "openai_chat/stream-reasoning-content"
    error = "tencent/compat-err"
    listed = listed_as_openai_does("hy-x")
