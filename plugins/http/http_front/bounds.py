"""What vendors refuse though it can be read: their clients hear it here as there, whatever model would answer.

A bound is its own API's alone. None is narrower than the vendor's, nor than that of other servers that speak the same
API: vLLM's and llama.cpp's take any number of stop sequences in OpenAI's chats, so they have no bound of that kind.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.anthropic_messages import MIN_BUDGET
from byenatos_sdk.formats.calls import invented_id
from byenatos_sdk.formats.contract import Format
from byenatos_sdk.formats.sampling import check_ranges
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Text, ToolCall, ToolResult

__all__ = ["check_bounds"]

_TRUNCATIONS = ("auto", "disabled")
_INCLUDED = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
_FORMS = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")
_MOST_STOPS = 5
_BETWEEN_CALLS = "interleaved-thinking"
"""With this beta of Anthropic's a budget is for all of a turn's answers, and may be more than one of them has."""


class _Check(Protocol):
    """Look for what one API refuses; ``whole``: the request has all of its conversation, the kernel no part of it."""

    def __call__(self, asked: InferenceRequest, *, whole: bool) -> None: ...


class _Bounds(NamedTuple):
    """The fewest tokens of an answer that an API takes (0 warms a cache up), and the rest."""

    least_tokens: int
    check: _Check


def check_bounds(format: Format, asked: InferenceRequest, body: bytes = b"", *, whole: bool) -> None:
    """Look whether a client's request, whose ``body`` that is, is within the bounds of the API that it speaks.

    Raises:
        InvalidRequest: it is not; the message names the field.
    """
    bounds = _OF.get(format.NAME)
    if bounds is None:
        return
    limit = asked.sampling.max_tokens
    if limit is not None and limit < bounds.least_tokens:
        name = _name_of_limit(format, body)
        raise InvalidRequest(f"{name}: expected at least {bounds.least_tokens}, found {limit}")
    check_ranges(asked.sampling, format.CAPABILITIES)
    bounds.check(asked, whole=whole)


def _openai_chat(asked: InferenceRequest, *, whole: bool) -> None:
    if whole:
        _check_results(asked.messages, "messages", "tool_call_id")


def _openai_responses(asked: InferenceRequest, *, whole: bool) -> None:
    truncation, include = asked.extra.get("truncation", "auto"), asked.extra.get("include", ())
    if truncation not in _TRUNCATIONS:
        raise InvalidRequest(f"truncation: expected auto or disabled, found {str(truncation)[:40]!r}")
    for at, one in enumerate(include):
        if one not in _INCLUDED:
            names = ", ".join(sorted(_INCLUDED))
            raise InvalidRequest(f"include[{at}]: expected one of {names}, found {str(one)[:40]!r}")
    if whole:
        _check_results(asked.messages, "input", "call_id")


def _anthropic(asked: InferenceRequest, *, whole: bool) -> None:
    budget = None if asked.reasoning is None else asked.reasoning.budget
    if budget is not None:
        limit = asked.sampling.max_tokens
        if budget < MIN_BUDGET:
            raise InvalidRequest(f"thinking.budget_tokens: expected at least {MIN_BUDGET}, found {budget}")
        if limit and budget >= limit and _BETWEEN_CALLS not in str(asked.extra.get("anthropic_beta")):
            raise InvalidRequest(f"thinking.budget_tokens: expected less than max_tokens ({limit}), found {budget}")
    last = asked.messages[-1]
    for message in asked.messages:
        if _is_empty(message) and not (message is last and message.role == "assistant"):
            raise InvalidRequest(f"messages: expected content in each, found an empty one of the {message.role}'s")
    if whole:
        first = next((message.role for message in asked.messages if message.role != "system"), "user")
        if first == "assistant":
            raise InvalidRequest("messages[0].role: expected user, found assistant")
        _check_results(asked.messages, "messages", "tool_use_id")


def _gemini(asked: InferenceRequest, *, whole: bool) -> None:  # noqa: ARG001 - there is nothing of that kind
    top_k, stops = asked.sampling.top_k, len(asked.sampling.stop)
    if stops > _MOST_STOPS:
        raise InvalidRequest(f"stopSequences: expected at most {_MOST_STOPS}, found {stops}")
    if top_k is not None and top_k < 0:
        raise InvalidRequest(f"topK: expected at least 0, found {top_k}")
    form = asked.extra.get("generationConfig", {}).get("responseMimeType", _FORMS[0])
    if form not in _FORMS:
        raise InvalidRequest(f"responseMimeType: expected one of {', '.join(_FORMS)}, found {str(form)[:40]!r}")
    for message in asked.messages:
        if message.role == "user" and not message.parts:
            raise InvalidRequest("contents: expected something in the parts of each, found one of the user's without")


def _tgi(asked: InferenceRequest, *, whole: bool) -> None:  # noqa: ARG001 - texts have nothing before them
    if not any(message.text for message in asked.messages):
        raise InvalidRequest("inputs: expected a text, found an empty one")
    penalty = asked.sampling.repetition_penalty
    if penalty is not None and penalty <= 0:
        raise InvalidRequest(f"repetition_penalty: expected more than 0, found {penalty:g}")


_OF = {
    "openai_chat": _Bounds(1, _openai_chat),
    "openai_responses": _Bounds(1, _openai_responses),
    "anthropic_messages": _Bounds(0, _anthropic),
    "gemini": _Bounds(1, _gemini),
    "huggingface_tgi": _Bounds(1, _tgi),
}


def _name_of_limit(format: Format, body: bytes) -> str:
    """Return what the limit of an answer's tokens is called: OpenAI's chats have an old and a new name for it."""
    name = format.CAPABILITIES.parameters["max_tokens"].wire
    return name if f'"{name}"'.encode() in body else "max_tokens" if format.NAME == openai_chat.NAME else name


def _is_empty(message: Message) -> bool:
    """Say whether a turn has nothing in it, or an empty text; instructions may."""
    for part in message.parts:
        if type(part) is Text and not part.text:
            return message.role != "system"
    return not message.parts and message.role != "system"


def _check_results(messages: Sequence[Message], field: str, id: str) -> None:
    """Look whether each result of a tool answers a call that was made before it; its ``id`` says which.

    Results of functions, as there were before there were tools, name none.
    """
    for message in messages:
        if message.role == "tool":
            break
    else:
        return
    called: set[str] = set()
    for part in [part for message in messages for part in message.parts]:
        if isinstance(part, ToolCall):
            called.add(part.id)
        elif isinstance(part, ToolResult) and part.call_id not in {*called, invented_id(len(called), part.name)}:
            raise InvalidRequest(f"{field}: expected a {id} of a call made before, found {part.call_id[:80]!r}")
