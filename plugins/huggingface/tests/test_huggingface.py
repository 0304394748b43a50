"""Hugging Face's driver against what its router and text-generation-inference answer."""

from tests.vendor_contract import VendorContract


class TestRouter(VendorContract):
    model = "hf-gpt-oss-120b"
    path = "/v1/chat/completions"
    says = {"model": "openai/gpt-oss-120b:fastest", "temperature": 0.5, "stream": True}
    stream = "openai_chat/stream-text"
    error = "huggingface/err-402-router"
