"""The commonest request and answer, texts and nothing else, read and written in one step each.

They say exactly what ``requests`` and ``responses`` would say, at a sixth of the cost; tests hold the two against each
other. Whatever is not of this shape, or is wrong in any way, is theirs: the errors too.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from byenatos_sdk.formats.openai_chat.usage import write_usage
from byenatos_sdk.formats.wire import MAX_BODY, Decoded, Reply, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.messages import InferenceRequest, InferenceResponse, Message, Role, Sampling, Text

__all__ = ["FIELDS", "read_plain", "write_plain"]

_MOST = 2**63 - 1
_Whole = Annotated[int, Meta(ge=-_MOST, le=_MOST)]
_Number = _Whole | Annotated[float, Meta(gt=-(2.0**63), lt=2.0**63)]
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_CHATS = "/chat/completions"
_DEPLOYMENTS = "/deployments/"
_HEADERS = {"content-type": "application/json"}


class _Said(Struct, forbid_unknown_fields=True):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class _StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None


class _Asked(Struct, forbid_unknown_fields=True):
    """A request's body."""

    messages: Annotated[list[_Said], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: _Number | None = None
    top_p: _Number | None = None
    max_tokens: _Whole | None = None
    max_completion_tokens: _Whole | None = None
    seed: _Whole | None = None
    presence_penalty: _Number | None = None
    frequency_penalty: _Number | None = None
    user: str | None = None


FIELDS = frozenset(_Asked.__struct_fields__)
"""What a plain request may have; no dialect has these as a field of its own."""

_decode = msgspec.json.Decoder(_Asked).decode
_NO_SAMPLING = Sampling()


def read_plain(wire: WireRequest) -> Decoded | None:
    """Read a client's chat if it is a plain one; ``None`` if it is not, or is wrong."""
    path = wire.path
    if not path.endswith(_CHATS) or "?" in path or _DEPLOYMENTS in path or len(wire.body) > MAX_BODY:
        return None
    try:
        body = _decode(wire.body)
    except (ValueError, RecursionError):  # of which msgspec's errors are, and those of texts that are not UTF-8
        return None
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    numbers = (body.temperature, body.top_p, limit, body.seed, body.presence_penalty, body.frequency_penalty)
    temperature, top_p, limit, seed, presence, frequency = numbers
    sampling = (
        _NO_SAMPLING
        if numbers == (None,) * 6
        else Sampling(
            temperature=temperature,
            top_p=top_p,
            max_tokens=limit,
            seed=seed,
            presence_penalty=presence,
            frequency_penalty=frequency,
        )
    )
    messages = tuple([Message(_ROLES[one.role], (Text(one.content),) if one.content else ()) for one in body.messages])
    asked = InferenceRequest(messages, "", body.model or "default", sampling)
    if body.user:
        asked = msgspec.structs.replace(asked, metadata={"end_user": body.user})
    options = body.stream_options
    return Decoded(
        asked, stream=bool(body.stream), usage_in_stream=options is not None and bool(options.include_usage), path=path
    )


class _Answered(Struct):
    role: str
    content: str
    refusal: None


class _Choice(Struct):
    index: int
    message: _Answered
    logprobs: None
    finish_reason: str


class _Body(Struct):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: None
    choices: tuple[_Choice]
    usage: dict[str, Any] | msgspec.UnsetType


def write_plain(response: InferenceResponse, reply: Reply) -> WireResponse | None:
    """Write a chat's answer if it is one text; ``None`` if there is more to say."""
    parts = response.message.parts
    if len(parts) != 1 or type(parts[0]) is not Text or response.logprobs or response.detail == "refusal":
        return None
    usage = write_usage(response.usage)
    message = _Answered("assistant", parts[0].text, None)
    body = _Body(
        reply.id,
        "chat.completion",
        reply.created,
        reply.model,
        None,
        (_Choice(0, message, None, response.reason),),
        msgspec.UNSET if usage is None else usage,
    )
    return WireResponse(json_body(body), headers=_HEADERS)
