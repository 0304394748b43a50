"""Anthropic's models."""

from byenatos_sdk.formats import anthropic_messages
from byenatos_sdk.http import HTTPDriver


class Anthropic(HTTPDriver):
    """Claude, by the Messages API."""

    format = anthropic_messages
    base_url = "https://api.anthropic.com"
