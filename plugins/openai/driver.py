"""OpenAI's models."""

from byenatos_sdk.formats import openai_chat, openai_responses
from byenatos_sdk.http import HTTPDriver


class OpenAI(HTTPDriver):
    """By Chat Completions, or with the setting `api = "openai_responses"` by Responses."""

    format = openai_chat
    formats = (openai_responses,)
    base_url = "https://api.openai.com/v1"
