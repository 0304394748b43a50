"""Tencent's models."""

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.http import HTTPDriver


class Tencent(HTTPDriver):
    """Hunyuan and others, by TokenHub, which speaks Chat Completions."""

    format = openai_chat
    base_url = "https://tokenhub.tencentmaas.com/v1"
