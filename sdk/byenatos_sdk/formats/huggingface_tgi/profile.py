"""TGI's chats as a dialect of OpenAI's, with what its own answers and errors look like beside them."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat import Dialect, Profile
from byenatos_sdk.formats.openai_chat.own_fields import OWN_FIELDS
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unauthenticated,
    UpstreamFailed,
)

__all__ = ["CAPABILITIES", "CHAT", "NAME", "as_chat"]

NAME = "huggingface_tgi"
CAPABILITIES = MATRIX[NAME]

_CHAT_NAMES = {"max_tokens": "max_tokens", "logprobs": "top_logprobs"}
"""Parameters that have another name in chats than where a text is continued."""


def as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Put an answer of ``/generate``, or an event of its stream, into OpenAI's form; another body stays as it is.

    Tokens of control (``special``) are no text. The last event repeats the whole text: that is not read again, but
    says that this was the last where nobody asked for details.
    """
    token, details = body.get("token"), body.get("details")
    if not isinstance(token, dict) and not isinstance(body.get("generated_text"), str):
        return body
    details = details if isinstance(details, dict) else {}
    choice: dict[str, Any] = {"index": 0, "text": body.get("generated_text"), "finish_reason": None}
    tokens, tops = details.get("tokens"), details.get("top_tokens")
    if isinstance(token, dict):
        choice["text"] = "" if token.get("special") is True else token.get("text")
        tokens, tops = [token], [body.get("top_tokens")]
    if isinstance(tops, list) and any(tops):
        choice["logprobs"] = {"content": _logprobs(tokens, tops)}
    ended = "stop" if isinstance(token, dict) and isinstance(body.get("generated_text"), str) else None
    choice["finish_reason"] = details.get("finish_reason") or ended
    usage = {"prompt_tokens": details.get("input_length"), "completion_tokens": details.get("generated_tokens")}
    prefill = details.get("prefill")
    if isinstance(prefill, list) and prefill:
        usage["prompt_tokens"] = len(prefill)
    return {"choices": [choice], "usage": usage if details else None, "model": body.get("model")}


def _logprobs(tokens: Any, tops: list[Any]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for at, token in enumerate(tokens if isinstance(tokens, list) else ()):
        if isinstance(token, dict) and not token.get("special"):
            top = tops[at] if at < len(tops) and isinstance(tops[at], list) else []
            others = [{"token": one.get("text"), "logprob": one.get("logprob")} for one in top if isinstance(one, dict)]
            written.append({"token": token.get("text"), "logprob": token.get("logprob"), "top_logprobs": others})
    return written


_KINDS: Mapping[str, type[ByenatosError]] = {
    "validation": InvalidRequest,
    "generation": UpstreamFailed,
    "incomplete_generation": UpstreamFailed,
    "overloaded": Overloaded,
    "healthcheck": Overloaded,
    "unhealthy": Overloaded,
    "template_error": InvalidRequest,
    "tool_error": InvalidRequest,
    "no_permits": Overloaded,
    # the text embeddings server's
    "Validation": InvalidRequest,
    "Tokenizer": InvalidRequest,
    "Empty": InvalidRequest,
    "Overloaded": Overloaded,
    "Backend": UpstreamFailed,
    "Unhealthy": Overloaded,
    "authentication": Unauthenticated,
    "not_found": NotFound,
}
"""Types of errors: what ``error_type`` says."""

CHAT = Dialect(
    Profile(
        NAME,
        replace(
            CAPABILITIES,
            parameters={
                name: replace(limit, wire=_CHAT_NAMES.get(name, name))
                for name, limit in CAPABILITIES.parameters.items()
                if not limit.raw_only
            },
        ),
        root="/v1",
        reasoning_text="reasoning",
        extra=OWN_FIELDS["huggingface_tgi"],
        kinds=_KINDS,
        as_chat=as_chat,
    )
)
"""The chat route."""
