"""What every dialect of OpenAI's chats is tested for: the cases of its vendor, both ways, and the laws of streams."""

import json
from typing import Any

from openai import OpenAI
from tests.sdk.formats import cases
from tests.sdk.formats.replay import Replay

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.contract import Format
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.answer import Answer
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Delta, InferenceRequest, InferenceResponse

__all__ = [
    "DONE",
    "REPLY",
    "added",
    "asked",
    "chat",
    "chunk",
    "client",
    "close_clients",
    "read_answer",
    "read_back",
    "read_stream",
    "same_request",
    "wanted",
]

REPLY = Reply("chatcmpl-1", "m", 1763800000)
WITHOUT_USAGE = Reply("chatcmpl-1", "m", 1763800000, Decoded(InferenceRequest(()), usage_in_stream=False))


DONE = b"data: [DONE]\n\n"


def asked(body: Any, path: str = "/v1/chat/completions") -> Decoded:
    """Return what a client's request to OpenAI's chats means."""
    return openai_chat.decode_request(WireRequest(path, json_body(body)))


def chat(**fields: Any) -> dict[str, Any]:
    """Return the body of a request with ``fields``."""
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields


def chunk(delta: Any = None, finish: Any = None, **fields: Any) -> bytes:
    """Return a chunk of a stream, with ``fields`` in its choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish} | fields
    return b"data: " + json_body({"id": "1", "choices": [choice]}) + b"\n\n"


def added(deltas: list[Delta]) -> InferenceResponse:
    """Return the answer that a stream adds up to."""
    answer = Answer()
    for delta in deltas:
        answer.add(delta)
    return answer.response()


_clients: dict[str, OpenAI] = {}


def client(replay: Replay) -> OpenAI:
    """Return OpenAI's client, which talks to the scripted server and does not try again."""
    if replay.url not in _clients:
        _clients[replay.url] = OpenAI(base_url=replay.url + "/v1", api_key="sk-test", max_retries=0)
    return _clients[replay.url]


def close_clients() -> None:
    """Close the clients that were used."""
    while _clients:
        _clients.popitem()[1].close()


def _content(content: Any) -> Any:
    """Put a text alone, an object alone and a list of one text into one form."""
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        content = [part for part in content if part != {"type": "text", "text": ""}]
        if len(content) == 1 and content[0].get("type") == "text":
            return content[0]["text"]
    return content or ""


def _message(message: dict[str, Any]) -> dict[str, Any]:
    normal = {key: value for key, value in message.items() if value is not None and key != "stop_reason"}
    normal["role"] = {"developer": "system"}.get(normal["role"], normal["role"])
    normal["content"] = _content(normal.get("content"))
    for call in normal.get("tool_calls", ()):
        call["type"] = "function"
        call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
    return normal


def equivalent(body: dict[str, Any], ignored: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a request's body in a form in which those that mean the same are equal."""
    normal = {key: value for key, value in json.loads(json.dumps(body)).items() if value is not None}
    normal = {key: value for key, value in normal.items() if key not in ignored}
    normal["messages"] = [_message(message) for message in normal.get("messages", ())]
    limit = normal.pop("max_completion_tokens", None) or normal.pop("max_tokens", None)
    if limit is not None:
        normal["max_tokens"] = limit
    if isinstance(normal.get("stop"), str):
        normal["stop"] = [normal["stop"]]
    form = normal.get("response_format", {})
    schema = form.get("schema") or form.get("json_schema", {}).get("schema")
    if schema is not None:
        named = {"name": "answer"} | form.get("json_schema", {})
        normal["response_format"] = {"type": "json_schema", "json_schema": named | {"schema": schema}}
    for tool in normal.get("tools", ()):
        tool["type"] = "function"
    if normal.get("tool_choice") == "auto":
        del normal["tool_choice"]
    if not normal.get("stream"):
        normal.pop("stream", None)
        normal.pop("stream_options", None)
    return normal


def same_request(format: Format, case: cases.Case, ignored: frozenset[str] = frozenset()) -> None:
    """Encode a case's meaning: the body says what the case's does, and no more."""
    request = cases.request_of(case.meaning)
    encoded = format.encode_request(request, stream=case.meaning.get("stream", False))
    assert encoded.losses == ()
    assert case.wire["path"].endswith(encoded.wire.path)
    found, wanted = equivalent(json.loads(encoded.wire.body), ignored), equivalent(case.wire["body"], ignored)
    if "model" not in wanted:
        found.pop("model", None)
    if case.meaning.get("stream") and "usage_in_stream" not in case.meaning:
        found.pop("stream_options")
    assert found == wanted


def read_answer(format: Format, wire: WireResponse, meaning: dict[str, Any]) -> None:
    """Decode a case's answer, or the error that it is."""
    if "error" in meaning:
        try:
            found = format.decode_response(wire)
        except ByenatosError as error:
            cases.assert_error(error, meaning)
        else:
            raise AssertionError(f"expected an error, found {found}")
    else:
        cases.assert_response(format.decode_response(wire), meaning)


def _thought(message: Any) -> str:
    extra = message.model_extra or {}
    return extra.get("reasoning_content", extra.get("reasoning", ""))


def _said(message: Any) -> dict[str, Any]:
    """Return what OpenAI's client read, as a meaning."""
    calls = message.tool_calls or []
    return {
        "text": message.content or "",
        "refusal": message.refusal,
        "thinking": _thought(message),
        "tool_calls": [(call.id, call.function.name, call.function.arguments) for call in calls],
    }


def wanted(meaning: dict[str, Any]) -> dict[str, Any]:
    """Return what OpenAI's client should read of an answer of this meaning."""
    response = cases.response_of(meaning)
    return {
        "text": "" if meaning.get("refusal") else response.text,
        "refusal": meaning.get("refusal"),
        "thinking": meaning.get("thinking", ""),
        "tool_calls": [
            (part.id, part.name, part.arguments) for part in response.message.parts if hasattr(part, "arguments")
        ],
        "finish": "stop" if meaning.get("refusal") else response.reason,
        "usage": cases.usage_of(meaning.get("usage")).input_tokens,
    }


def read_back(replay: Replay, format: Format, meaning: dict[str, Any]) -> dict[str, Any]:
    """Send an encoded answer to OpenAI's client and return what it read."""
    replay.answer(format.encode_response(cases.response_of(meaning), REPLY))
    answer = client(replay).chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    (choice,) = answer.choices
    read = answer.usage.prompt_tokens if answer.usage else None
    return _said(choice.message) | {"finish": choice.finish_reason, "usage": read}


def read_stream(replay: Replay, format: Format, deltas: list[Delta], reply: Reply = REPLY) -> dict[str, Any]:
    """Send an encoded stream to OpenAI's client, a piece for each delta, and return what it added up to."""
    encoder = format.stream_encoder(reply)
    replay.stream(encoder.encode(deltas), encoder.keep_alive(), content_type=encoder.content_type)
    found: dict[str, Any] = {"text": "", "refusal": None, "thinking": "", "tool_calls": [], "finish": None}
    found["usage"] = None
    chunks = client(replay).chat.completions.create(model="m", messages=[], stream=True)
    ids = set()
    for chunk in chunks:
        ids.add((chunk.id, chunk.created))
        if chunk.usage is not None:
            found["usage"] = chunk.usage.prompt_tokens
        for choice in chunk.choices:
            delta = choice.delta
            found["text"] += delta.content or ""
            found["thinking"] += _thought(delta)
            found["refusal"] = delta.refusal or found["refusal"]
            for call in delta.tool_calls or ():
                assert call.index == len(found["tool_calls"])
                found["tool_calls"].append((call.id, call.function.name, call.function.arguments))
            found["finish"] = choice.finish_reason or found["finish"]
    assert ids == {(reply.id, reply.created)}
    return found
