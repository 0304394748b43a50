"""Alibaba's models."""

from byenatos_sdk.formats import dashscope, openai_chat
from byenatos_sdk.http import HTTPDriver


class Alibaba(HTTPDriver):
    """Qwen, by DashScope; `api = "openai_chat"` with its other `base_url` speaks the compatible mode."""

    format = dashscope
    formats = (openai_chat,)
    base_url = "https://dashscope.aliyuncs.com/api/v1"
    embedding_inputs = 10
