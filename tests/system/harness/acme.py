"""A vendor that nobody has heard of: how its driver is let through to it, and what its streams are made of."""

import json
from typing import Any

__all__ = ["ACCESS", "ACME", "event", "tokens"]

ACME = """
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.http import HTTPDriver

class Plugin(HTTPDriver):
    format = openai_chat
    base_url = "https://api.acme.test/v1"
"""

ACCESS = """
[plugins]
unsigned = true
[drivers.acme]
network = ["api.acme.test:443"]
ca = "{ca}"
secrets = ["acme"]
[secrets.acme]
environment = "ACME_KEY"
"""


def event(delta: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a stream, with a piece of text or the reason why it ends."""
    choice = {"index": 0, "delta": {"content": delta} if delta is not None else {}, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "acme", "choices": [choice], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def tokens(count: int) -> list[bytes]:
    """The events of an answer that counts."""
    return [event(f"{number} ") for number in range(count)]
