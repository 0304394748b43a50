"""Whole answers: chats' and completions', one or several."""

from collections.abc import Sequence
from typing import Any

from byenatos_sdk.formats.fragments import CallFragments
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.logprobs import read_logprobs, write_logprobs, write_old_logprobs
from byenatos_sdk.formats.openai_chat.messages import REASONING_TEXTS, write_call
from byenatos_sdk.formats.openai_chat.plain import write_plain
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.openai_chat.tools import custom_names
from byenatos_sdk.formats.openai_chat.usage import read_usage, write_usage
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body
from byenatos_sdk.protocol.errors import UpstreamFailed
from byenatos_sdk.protocol.messages import (
    FinishReason,
    InferenceResponse,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

__all__ = [
    "answer_object",
    "content_of",
    "decode_choices",
    "decode_response",
    "encode_choices",
    "encode_response",
    "failed_end",
    "finish_of",
    "finish_word",
    "is_raw",
]


def content_of(content: Any) -> tuple[str, str]:
    """Return text and reasoning of a content: a string, or a list of parts (Mistral, some gateways)."""
    if isinstance(content, str):
        return content, ""
    text: list[str] = []
    thought: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            text.append(part["text"])
        elif isinstance(part.get("refusal"), str):
            text.append(part["refusal"])
        elif part.get("type") == "thinking":
            inner = part.get("thinking")
            thought.append(inner if isinstance(inner, str) else content_of(inner)[0])
    return "".join(text), "".join(thought)


def finish_of(profile: Profile, choice: dict[str, Any], *, called: bool) -> tuple[FinishReason, str, str | None] | None:
    """Return reason, detail and stop sequence of a choice; ``None`` while it has not ended."""
    word = choice.get("finish_reason")
    if not isinstance(word, str) or word in {"", "null"}:
        return None
    reason, detail = profile.finish(word)
    stopped_by = choice.get("stop_reason")
    if reason == "stop" and not called and isinstance(stopped_by, str) and stopped_by:
        return reason, "stop_sequence", stopped_by
    return reason, detail, None


def failed_end(profile: Profile, wire: WireResponse, choice: dict[str, Any]) -> None:
    """See whether a choice ended because it failed.

    Raises:
        ByenatosError: it did.
    """
    word = choice.get("finish_reason")
    if word == "error":
        raise found_error(profile, wire, choice)
    kind = profile.failures.get(word) if isinstance(word, str) else None
    if kind is not None:
        raise kind(f"the vendor ended the answer: {word}", vendor_code=str(word), vendor_status=wire.status)


def thought_of(message: dict[str, Any]) -> str:
    """Return the reasoning in a message or delta: of the fields that may hold it the first that does."""
    for field in REASONING_TEXTS:
        value = message.get(field)
        if isinstance(value, str) and value:
            return value
    return ""


def _calls(message: dict[str, Any]) -> list[Part]:
    calls = CallFragments()
    found = message.get("tool_calls")
    for at, call in enumerate(found if isinstance(found, list) else ()):
        if not isinstance(call, dict):
            continue
        function = call.get("function")
        custom = call.get("custom")
        if isinstance(custom, dict):
            calls.add(at, call.get("id"), custom.get("name"), custom.get("input"), free=True)
        elif isinstance(function, dict):
            calls.add(at, call.get("id"), function.get("name"), function.get("arguments"))
    legacy = message.get("function_call")
    if isinstance(legacy, dict) and not calls:
        calls.add(0, None, legacy.get("name"), legacy.get("arguments"))
    return [ToolCall(call.id, call.name, call.arguments) for call in calls.take()]


def _choice(profile: Profile, choice: Any, usage: Usage, model: str) -> InferenceResponse:
    if not isinstance(choice, dict):
        raise UpstreamFailed(f"choices: expected objects, found {type(choice).__name__}")
    found = choice.get("message")
    message: dict[str, Any] = found if isinstance(found, dict) else {"content": choice.get("text")}
    parts: list[Part] = []
    text, thought = content_of(message.get("content"))
    thought = thought_of(message) or thought
    if thought:
        parts.append(Reasoning(thought))
    refusal = message.get("refusal")
    refused = isinstance(refusal, str)
    if text:
        parts.append(Text(text))
    if refused and refusal:
        parts.append(Text(refusal))
    calls = _calls(message)
    reason, detail, stop = finish_of(profile, choice, called=bool(calls)) or (
        "tool_calls" if calls else "stop",
        "",
        None,
    )
    if refused and (refusal or reason == "content_filter"):
        reason, detail = "content_filter", "refusal"
    return InferenceResponse(
        Message("assistant", (*parts, *calls)),
        reason,
        usage,
        model,
        detail=detail,
        stop_sequence=stop,
        logprobs=read_logprobs(choice.get("logprobs")),
    )


def decode_choices(profile: Profile, wire: WireResponse) -> list[InferenceResponse]:
    """Read every answer of a response, in the order of their indices.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    body = read_body(profile, wire)
    if not isinstance(body, dict) or body.get("error"):
        raise found_error(profile, wire, body)
    body = profile.as_chat(body)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise found_error(profile, wire, body)
    for choice in choices:
        if isinstance(choice, dict):
            failed_end(profile, wire, choice)
    usage = read_usage(body.get("usage")) or Usage(None, None)
    model = body.get("model")
    named = model if isinstance(model, str) else ""
    return [_choice(profile, choice, usage, named) for choice in sorted(choices, key=_index)]


def _index(choice: Any) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if isinstance(index, int) else 0


def decode_response(profile: Profile, wire: WireResponse) -> InferenceResponse:
    """Read an answer, the first if there are several.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    return decode_choices(profile, wire)[0]


def is_raw(reply: Reply) -> bool:
    """Say whether the client asked for a completion, whose answer has an older shape."""
    return reply.asked is not None and reply.asked.request.raw


def echoes(reply: Reply) -> bool:
    """Say whether a completion is to begin with the text that it continues."""
    return reply.asked is not None and reply.asked.echo


def finish_word(reason: FinishReason, detail: str) -> str:
    """Return OpenAI's word for the end of an answer; refusals have a field of their own and end as others do."""
    return "stop" if detail == "refusal" else reason


def _message(
    profile: Profile, response: InferenceResponse, custom: frozenset[str], *, one_call: bool
) -> dict[str, Any]:
    parts = response.message.parts
    refused = response.detail == "refusal"
    text = response.text
    calls = [write_call(part, custom=part.name in custom) for part in parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or (calls and not text) else text,
        "refusal": text if refused else None,
    }
    thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
    if thought:
        message[profile.reasoning_text] = thought
    if calls and one_call:
        message["function_call"] = calls[0]["function"]
    elif calls:
        message["tool_calls"] = calls
    return message


def answer_object(reply: Reply, kind: str, choices: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
    """Write what is around the choices; a usage that is not known is left out."""
    body: dict[str, Any] = {
        "id": reply.id,
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "system_fingerprint": None,
        "choices": choices,
    }
    written = None if usage is None else write_usage(usage)
    return body if written is None else body | {"usage": written}


def _written(profile: Profile, response: InferenceResponse, index: int, reply: Reply, echo: str) -> dict[str, Any]:
    raw = is_raw(reply)
    empty_refusal = response.detail == "refusal" and not response.text
    word = response.reason if raw or empty_refusal else finish_word(response.reason, response.detail)
    choice: dict[str, Any] = {"index": index}
    if raw:
        choice["text"] = echo + response.text
        choice["logprobs"] = write_old_logprobs(response.logprobs, len(echo)) if response.logprobs else None
    else:
        one_call = reply.one_call
        word = "function_call" if one_call and word == "tool_calls" else word
        choice["message"] = _message(profile, response, custom_names(reply), one_call=one_call)
        choice["logprobs"] = write_logprobs(response.logprobs) if response.logprobs else None
    choice["finish_reason"] = word
    if profile.stop_reason:
        choice["stop_reason"] = response.stop_sequence
    return choice


def encode_choices(profile: Profile, responses: Sequence[InferenceResponse], reply: Reply) -> WireResponse:
    """Write several answers to one request; what they read counts once, what they wrote adds up."""
    texts = texts_of(reply, len(responses)) if echoes(reply) else [""] * len(responses)
    choices = [
        _written(profile, response, at, reply, text)
        for at, (response, text) in enumerate(zip(responses, texts, strict=True))
    ]
    kind = "text_completion" if is_raw(reply) else "chat.completion"
    body = answer_object(reply, kind, choices, total([response.usage for response in responses], reply))
    return WireResponse(json_body(body), headers={"content-type": "application/json"})


def texts_of(reply: Reply, answers: int) -> list[str]:
    """Return what each answer of a completion continues: for each text of the request come all of its choices."""
    if reply.asked is None:
        return [""] * answers
    asked = (reply.asked.request, *reply.asked.others)
    texts = ["".join(message.text for message in one.messages) for one in asked]
    return [texts[at * len(texts) // answers] for at in range(answers)]


def total(usages: Sequence[Usage], reply: Reply) -> Usage:
    """Add up the counts of several answers to one request: those to the same text read the same input."""
    texts = 1 if reply.asked is None else 1 + len(reply.asked.others)
    firsts = usages[:: len(usages) // texts]
    return Usage(
        _sum([usage.input_tokens for usage in firsts]),
        _sum([usage.output_tokens for usage in usages]),
        sum(usage.cached_tokens for usage in firsts),
        sum(usage.cache_write_tokens for usage in firsts),
        sum(usage.reasoning_tokens for usage in usages),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def encode_response(profile: Profile, response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    plain = None if profile.stop_reason or is_raw(reply) else write_plain(response, reply)
    return encode_choices(profile, [response], reply) if plain is None else plain
