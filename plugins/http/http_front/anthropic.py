"""Anthropic's API."""

from byenatos_sdk.formats import anthropic_messages
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["enter"]


def enter(routes: Routes, verbs: Verbs) -> None:
    """Enter its paths; the list of models is OpenAI's too."""
    routes.add("POST", "/v1/messages", verbs.infer(anthropic_messages, "msg_"), anthropic_messages)
    routes.add("POST", "/v1/messages/count_tokens", verbs.count(anthropic_messages), anthropic_messages)
