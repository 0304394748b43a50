"""Baidu's driver against what Qianfan's API answers."""

from tests.vendor_contract import ListingVendorContract, listed_as_openai_does


class TestErnie(ListingVendorContract):
    model = "ernie-5.1"
    path = "/v2/chat/completions"
    says = {"model": "ernie-5.1", "temperature": 0.5, "max_completion_tokens": 50, "stream": True}
    stream = "qianfan/stream-text"
    error = "qianfan/err-429-rpm"
    listed = listed_as_openai_does("ernie-x")
