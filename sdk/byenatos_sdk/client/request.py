"""Build an ``InferenceRequest`` from what an application writes: a text, messages, or a whole request."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    InferenceRequest,
    Message,
    ReasoningOptions,
    Sampling,
    Tool,
    user,
)

__all__ = ["Options", "Prompt", "build_embedding_request", "build_request"]

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
    parallel_tool_calls: bool | None
    reasoning: ReasoningOptions | None
    raw: bool
    strict: bool
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
    request = _request(prompt)
    if not options:
        return _checked(request)
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(sorted(Options.__annotations__))
        raise TypeError(f"expected options out of {known}; found {', '.join(sorted(unknown))}")
    fields = {name: value for name, value in options.items() if name not in _SHORTCUTS}
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
    return _checked(request)


def build_embedding_request(
    texts: str | Sequence[str], model: str, dimensions: int | None, extra: dict[str, Any] | None
) -> EmbeddingRequest:
    """Build the request for the vectors of ``texts``; one text is one input.

    Raises:
        TypeError: if something among the texts is none.
        InvalidRequest: if there is no text, or ``dimensions`` is not positive.
    """
    inputs = (texts,) if isinstance(texts, str) else tuple(texts)
    for text in inputs:
        if not isinstance(text, str):
            raise TypeError(f"expected texts, found a {type(text).__name__} among them")
    if not inputs:
        raise InvalidRequest("expected at least one text, found none")
    if dimensions is not None and dimensions < 1:
        raise InvalidRequest(f"expected dimensions to be a positive number, found {dimensions}; leave it out")
    return EmbeddingRequest(inputs, model, dimensions, extra or {})


def _checked(request: InferenceRequest) -> InferenceRequest:
    for name in _TIME_LIMITS:
        limit = getattr(request, name)
        if limit is not None and not 0 < limit < float("inf"):
            raise InvalidRequest(f"expected {name} to be a positive number of seconds, found {limit}; leave it out")
    return request


def _request(prompt: Prompt) -> InferenceRequest:
    if isinstance(prompt, InferenceRequest):
        return prompt
    if isinstance(prompt, str):
        return InferenceRequest((user(prompt),))
    if isinstance(prompt, Message):
        return InferenceRequest((prompt,))
    messages = tuple(prompt)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"expected a text, messages or an InferenceRequest, found a {type(message).__name__} in it")
    return InferenceRequest(messages)
