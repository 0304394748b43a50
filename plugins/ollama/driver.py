"""An Ollama server's models."""

from byenatos_sdk.formats import ollama, openai_chat
from byenatos_sdk.http import HTTPDriver


class Ollama(HTTPDriver):
    """By Ollama's own API, or by the one that it shares with OpenAI: `api = "openai_chat"`, `base_url` with `/v1`."""

    format = ollama
    formats = (openai_chat,)
    base_url = "http://localhost:11434"
