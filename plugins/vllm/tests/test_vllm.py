"""vLLM's driver against what a vLLM server answers."""

from tests.vendor_contract import ListingVendorContract, listed_as_openai_does


class TestServer(ListingVendorContract):
    model = "vllm"
    settings = {"model": "org/model"}
    path = "/v1/chat/completions"
    says = {"model": "org/model", "temperature": 0.5, "max_completion_tokens": 50, "stream": True}
    stream = "vllm/stream-text"
    error = "vllm/err-401"
    listed = listed_as_openai_does("org/model")
