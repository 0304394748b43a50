"""Whoever speaks Chat Completions."""

from byenatos_sdk.formats import openai_chat, openai_compatible, openai_responses
from byenatos_sdk.http import HTTPDriver


class OpenAICompatible(HTTPDriver):
    """The settings say where (`base_url`), and whose dialect it is (`api`)."""

    format = openai_compatible.generic
    formats = (
        *openai_compatible.DIALECTS.values(),
        openai_chat,
        openai_responses,
    )
