"""Ollama's driver against what an Ollama server answers."""

from tests.vendor_contract import ListingVendorContract, VendorContract


class TestNative(ListingVendorContract):
    model = "ollama"
    settings = {"model": "llama3.2"}
    path = "/api/chat"
    says = {
        "model": "llama3.2",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "options": {"temperature": 0.5, "num_predict": 50},
        "stream": True,
    }
    stream = "ollama/stream-chat"
    error = "ollama/err-404"
    listed = "ollama/tags"


class TestAsOpenAI(VendorContract):
    model = "ollama"
    settings = {"api": "openai_chat", "base_url": "http://localhost:11434/v1"}
    path = "/v1/chat/completions"
    says = {"model": "llama3.2", "stream": True}
    stream = "openai_chat/stream-text"
    error = "ollama_own/err-openai-layer"
