"""Build an ``InferenceRequest`` from what an application writes: a text, messages, or a whole request."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Sampling, Tool, user

__all__ = ["Options", "Prompt", "build_request"]

Prompt: TypeAlias = str | Message | Sequence[Message] | InferenceRequest
"""A user's text, one message, a conversation, or a whole request whose fields the options override."""

_SHORTCUTS = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "seed"})
_TIME_LIMITS = ("timeout_s", "gap_timeout_s")


class Options(TypedDict, total=False):
    """The keyword arguments of ``stream`` and ``infer``.

    They are the fields of ``InferenceRequest``, and the commonest ones of ``Sampling`` as shortcuts.
    """

    model: str
    session: str | None
    sampling: Sampling
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: Sequence[str]
    seed: int
    tools: Sequence[Tool]
    tool_choice: str
    response_format: dict[str, Any] | None
    task: str | None
    privacy: Literal["any", "local"]
    timeout_s: float | None
    gap_timeout_s: float | None
    metadata: dict[str, str]
    extra: dict[str, Any]


def build_request(prompt: Prompt, options: Mapping[str, Any]) -> InferenceRequest:
    """Build the request that ``prompt`` and ``options`` describe.

    Raises:
        TypeError: if the prompt is of another type, or an option is not one of :class:`Options`.
        InvalidRequest: if a time limit is not positive.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(sorted(Options.__annotations__))
        raise TypeError(f"expected options out of {known}; found {', '.join(sorted(unknown))}")
    fields = {name: value for name, value in options.items() if name not in _SHORTCUTS}
    request = _request(prompt)
    if shortcuts := {name: value for name, value in options.items() if name in _SHORTCUTS}:
        if isinstance(stop := shortcuts.get("stop"), str):
            raise TypeError(f"expected stop to be a sequence of texts, found the text {stop!r}; write stop=[{stop!r}]")
        if stop is not None:
            shortcuts["stop"] = tuple(stop)
        fields["sampling"] = msgspec.structs.replace(fields.get("sampling", request.sampling), **shortcuts)
    if "tools" in fields:
        fields["tools"] = tuple(fields["tools"])
    if fields:
        request = msgspec.structs.replace(request, **fields)
    for name in _TIME_LIMITS:
        limit = getattr(request, name)
        if limit is not None and not 0 < limit < float("inf"):
            raise InvalidRequest(f"expected {name} to be a positive number of seconds, found {limit}; leave it out")
    return request


def _request(prompt: Prompt) -> InferenceRequest:
    if isinstance(prompt, str):
        return InferenceRequest((user(prompt),))
    if isinstance(prompt, InferenceRequest):
        return prompt
    if isinstance(prompt, Message):
        return InferenceRequest((prompt,))
    messages = tuple(prompt)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"expected a text, messages or an InferenceRequest, found a {type(message).__name__} in it")
    return InferenceRequest(messages)
