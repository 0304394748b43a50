"""Meta's driver against what the Meta Model API answers, which speaks OpenAI's Chat Completions with restrictions."""

from tests.vendor_contract import ListingVendorContract, listed_as_openai_does


class TestMuse(ListingVendorContract):
    model = "muse-spark-1.3"
    path = "/v1/chat/completions"
    says = {"model": "muse-spark-1.3", "stream": True}
    leaves_out = frozenset({"stop"})
    stream = "openai_chat/stream-text"
    error = "openai_chat/err-401"
    listed = listed_as_openai_does("muse-x")
