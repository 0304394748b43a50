"""Alibaba's driver against what DashScope answers, natively and in its compatible mode."""

from tests.vendor_contract import ListingVendorContract, VendorContract, listed_as_openai_does


class TestDashScope(VendorContract):
    model = "qwen3.8-flash"
    path = "/api/v1/services/aigc/text-generation/generation"
    headers = {"x-dashscope-sse": "enable"}
    says = {"model": "qwen3.8-flash"}
    stream = "dashscope/stream-incremental"
    error = "dashscope/err-429-alloc"


class TestCompatibleMode(ListingVendorContract):
    model = "qwen3.8-flash"
    settings = {"api": "openai_chat", "base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1"}
    path = "/compatible-mode/v1/chat/completions"
    says = {"model": "qwen3.8-flash", "stream": True}
    stream = "dashscope/compat-stream"
    error = "dashscope/compat-err-429"
    listed = listed_as_openai_does("qwen-x")
