"""What goes over the wire to and from an Ollama server, as its clients and its server write it.

Source: the server's ``api/types.go`` (August 2026) and ollama-python 0.6.3.
"""

from typing import Any

import msgspec

__all__ = ["Answer", "Call", "Function", "Logprob", "Request", "TopLogprob", "WireMessage", "WireTool"]


class Function(msgspec.Struct, omit_defaults=True):
    """A call: ``arguments`` is an object (kept as it was written), not text."""

    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"")
    index: int | None = None


class Call(msgspec.Struct, omit_defaults=True):
    """A call with its id, which ollama-python drops."""

    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class WireMessage(msgspec.Struct, omit_defaults=True):
    """A message: ``images`` are base64 without a prefix."""

    role: str = ""
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    name: str | None = None  # what clients of OpenAI's format call it
    tool_call_id: str | None = None


class ToolFunction(msgspec.Struct):
    """A function that may be called."""

    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None


class WireTool(msgspec.Struct):
    """A tool in OpenAI's shape."""

    type: str | None = None
    function: ToolFunction | None = None


class Request(msgspec.Struct):
    """What ``/api/chat`` and ``/api/generate`` take."""

    model: str | None = None
    messages: list[WireMessage] | None = None
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    template: str | None = None
    suffix: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: int | float | str | None = None
    options: dict[str, Any] | None = None
    tools: list[WireTool] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    truncate: bool | None = None
    shift: bool | None = None


class TopLogprob(msgspec.Struct):
    """An alternative to a token."""

    token: str
    logprob: float


class Logprob(msgspec.Struct):
    """A token with its alternatives."""

    token: str
    logprob: float
    top_logprobs: list[TopLogprob] | None = None


class Answer(msgspec.Struct):
    """A line of a stream, or a whole answer, of ``/api/chat`` (``message``) or ``/api/generate`` (``response``)."""

    model: str | None = None
    message: WireMessage | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[Logprob] | None = None
    error: Any = None
