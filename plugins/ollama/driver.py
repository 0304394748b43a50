"""An Ollama server's models."""

from byenatos_sdk.formats import ollama
from byenatos_sdk.http import HTTPDriver


class Ollama(HTTPDriver):
    """By Ollama's own API."""

    format = ollama
    base_url = "http://localhost:11434"
