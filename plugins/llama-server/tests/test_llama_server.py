"""The driver of llama.cpp's server against what that answers."""

from tests.vendor_contract import ListingVendorContract, listed_as_openai_does


class TestServer(ListingVendorContract):
    model = "llama-server"
    settings = {"model": "any"}
    path = "/v1/chat/completions"
    says = {"model": "any", "temperature": 0.5, "max_tokens": 50, "stream": True}
    stream = "llamacpp/stream-chat"
    error = "llamacpp/err-context"
    listed = listed_as_openai_does("m.gguf")
