"""Requests to ``:generateContent``, ``:streamGenerateContent`` and ``:countTokens``, as clients send them.

Names come in camelCase and snake_case, whole numbers as floats, bytes in either alphabet of base64, lists of one as
that one. What is unknown is ignored.
"""

from itertools import groupby
from typing import Any

from byenatos_sdk.formats.calls import CallBook, arguments_text
from byenatos_sdk.formats.extras import kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.gemini.names import Target, read_fields, target_of
from byenatos_sdk.formats.gemini.parts import media_of, result_of, signed
from byenatos_sdk.formats.gemini.requests import GENERATION, TOP
from byenatos_sdk.formats.gemini.schemas import json_schema_of
from byenatos_sdk.formats.gemini.shapes import NAME
from byenatos_sdk.formats.gemini.thinking import read_thinking
from byenatos_sdk.formats.wire import Decoded, WireRequest, json_body
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Image,
    InferenceRequest,
    Message,
    Part,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
)

__all__ = ["decode_count_request", "decode_request"]

_ROLES: dict[str, Role] = {
    "": "user",
    "user": "user",
    "function": "user",
    "tool": "user",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_VERBS = ("generateContent", "streamGenerateContent", "countTokens")
_JSON = "application/json"
_FORM = ("responseMimeType", "responseSchema", "responseJsonSchema")


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request; whether it streams stands in its path, and without ``alt=sse`` as one JSON array.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    target = target_of(wire.path)
    if target.verb not in _VERBS:
        raise InvalidRequest(f"path: expected one of the verbs {', '.join(_VERBS)}, found {target.verb[:64]!r}")
    fields = read_fields(wire.body)
    fields = fields.inner("generateContentRequest") or fields
    stream = target.verb == "streamGenerateContent"
    array = stream and "sse" not in target.query.get("alt", ())
    config = fields.inner("generationConfig") or Fields({})
    choices = config.whole("candidateCount")
    choices = 1 if choices is None else choices
    if choices < 1:
        raise InvalidRequest(f"generationConfig.candidateCount: expected at least 1, found {choices}")
    request = _request(fields, target, {"alt": "json"} if array else {})
    return Decoded(request, stream, choices=choices, path=wire.path.partition("?")[0])


def decode_count_request(wire: WireRequest) -> InferenceRequest:
    """Read a client's request to count tokens, of contents alone or of a whole request.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    return decode_request(wire).request


def _request(fields: Fields, target: Target, more: dict[str, Any]) -> InferenceRequest:
    if not target.model:
        raise InvalidRequest("path: expected a model, found none")
    config = fields.inner("generationConfig") or Fields({})
    tools, own_tools = _tools(fields)
    choice, tools, own_choice = _choice(fields, tools)
    open_to = {"auto", "none", *(tool.name for tool in tools)} | ({"required"} if tools else set())
    if choice not in open_to and not own_tools:
        raise InvalidRequest("toolConfig.functionCallingConfig: expected functions that are declared, found others")
    form, own_form = _response_format(config)
    own_config = own_form | {name: config.get(name) for name in GENERATION if name in config}
    thinking = config.inner("thinkingConfig")
    if thinking is not None and (thinking.whole("thinkingBudget") or 0) < 0:
        own_config["thinkingConfig"] = thinking.values
    extra = {name: fields.get(name) for name in TOP}
    extra |= {"tools": own_tools or None, "toolConfig": own_choice or None, "generationConfig": own_config or None}
    return InferenceRequest(
        tuple(_Reading().messages(fields)),
        model=target.model,
        sampling=_sampling(config),
        tools=tuple(tools),
        tool_choice=choice,
        response_format=form,
        extra=kept(NAME, extra | more),
        reasoning=read_thinking(thinking),
    )


def _sampling(config: Fields) -> Sampling:
    logprobs = config.whole("logprobs")
    return Sampling(
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        top_k=config.whole("topK"),
        max_tokens=config.whole("maxOutputTokens"),
        stop=config.texts("stopSequences"),
        seed=config.whole("seed"),
        presence_penalty=config.number("presencePenalty"),
        frequency_penalty=config.number("frequencyPenalty"),
        logprobs=(logprobs or 0) if config.flag("responseLogprobs") else None,
    )


def _response_format(config: Fields) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the answer's form, and what of it only this API knows."""
    media_type = config.text("responseMimeType") or ""
    schema = config.mapping("responseJsonSchema")
    if schema is None and config.mapping("responseSchema") is not None:
        schema = json_schema_of(config.mapping("responseSchema") or {})
    if media_type not in {"", "text/plain", _JSON}:
        return None, {name: config.get(name) for name in _FORM if name in config}
    if schema is not None and media_type != "text/plain":
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}, {}
    return {"type": "json_object"} if media_type == _JSON else None, {}


def _tools(fields: Fields) -> tuple[list[Tool], list[Any]]:
    """Return the functions, and the vendor's own tools as they were given."""
    tools: list[Tool] = []
    own: list[Any] = []
    for group in _several(fields, "tools"):
        for one in _several(group, "functionDeclarations"):
            schema = one.mapping("parametersJsonSchema")
            if schema is None:
                schema = json_schema_of(one.mapping("parameters") or {})
            tools.append(Tool(one.need_text("name"), one.text("description") or "", schema))
        rest = {name: value for name, value in group.values.items() if name != "functionDeclarations"}
        if any(value is not None for value in rest.values()):
            own.append(rest)
    return tools, own


def _choice(fields: Fields, tools: list[Tool]) -> tuple[str, list[Tool], dict[str, Any]]:
    """Return which tools may be called, the tools that are left for it, and what only this API knows."""
    config = fields.inner("toolConfig") or Fields({})
    calling = config.inner("functionCallingConfig") or Fields({})
    own = {name: value for name, value in config.values.items() if name != "functionCallingConfig"}
    mode = (calling.text("mode") or "AUTO").upper().removeprefix("MODE_")
    allowed = calling.texts("allowedFunctionNames")
    if mode == "NONE":
        return "none", tools, own
    if mode not in {"AUTO", "ANY", "VALIDATED", "UNSPECIFIED"}:
        raise InvalidRequest(f"{calling.name('mode')}: expected AUTO, ANY, NONE or VALIDATED, found {mode[:64]!r}")
    if allowed and mode == "ANY" and len(allowed) == 1:
        return allowed[0], tools, own
    if allowed and mode != "AUTO":
        tools = [tool for tool in tools if tool.name in allowed]
    if mode == "VALIDATED":
        own["functionCallingConfig"] = {"mode": mode}
    return "required" if mode == "ANY" else "auto", tools, own


def _several(fields: Fields, key: str) -> list[Fields]:
    """Return a list of objects; one that is not in a list counts as a list of one."""
    if isinstance(fields.get(key), dict):
        return [fields.need_inner(key)]
    return fields.objects(key)


def _joined(turns: list[Message]) -> Message:
    """Return turns of the model as one: the official client keeps each piece of a stream as a turn of its own."""
    parts: list[Part] = []
    for text, group in groupby(
        (part for turn in turns for part in turn.parts), key=lambda part: isinstance(part, Text)
    ):
        same = list(group)
        parts += [Text("".join(part.text for part in same if isinstance(part, Text)))] if text else same
    return Message("assistant", tuple(parts))


class _Reading:
    """One conversation on its way in."""

    def __init__(self) -> None:
        self._calls = CallBook()

    def messages(self, fields: Fields) -> list[Message]:
        """Return the conversation, instructions first.

        Raises:
            InvalidRequest: a part of it is wrong, or there is none.
        """
        found: list[Message] = []
        instruction = fields.get("systemInstruction")
        if isinstance(instruction, str):
            found.append(Message("system", (Text(instruction),)))
        elif instruction is not None:
            parts = _several(fields.need_inner("systemInstruction"), "parts")
            found += [Message("system", (Text(text),)) for part in parts if (text := part.text("text"))]
        contents = _several(fields, "contents")
        if not contents:
            raise InvalidRequest("contents: expected at least one, found none")
        turns = [message for content in contents for message in self._content(content)]
        for role, group in groupby(turns, key=lambda message: message.role):
            same = list(group)
            found += [_joined(same)] if role == "assistant" and len(same) > 1 else same
        return found

    def _content(self, content: Fields) -> list[Message]:
        named = content.text("role") or ""
        role = _ROLES.get(named.lower())
        if role is None:
            raise InvalidRequest(f"{content.name('role')}: expected user or model, found {named[:64]!r}")
        results: list[Part] = []
        others: list[Part] = []
        for part in _several(content, "parts"):
            response = part.inner("functionResponse")
            if response is not None:
                results.append(self._result(response))
            else:
                others += self._part(part)
        found = [Message("tool", tuple(results))] if results else []
        return [*found, Message(role, tuple(others))] if others or not results else found

    def _part(self, part: Fields) -> list[Part]:
        signature, source, redacted = signed(part.text("thoughtSignature"))
        call = part.inner("functionCall")
        if call is not None:
            known = self._calls.called(call.need_text("name"), call.text("id"))
            arguments = arguments_text(json_body(call.mapping("args") or {}))
            return [ToolCall(known.id, known.name, arguments, signature)]
        text = part.text("text")
        if text is not None and part.flag("thought"):
            return [Reasoning(text, signature, source, redacted)]
        if text is not None:
            said: list[Part] = [Text(text)] if text else []
            return said if signature is None else [*said, Reasoning("", signature, source, redacted)]
        media = media_of(part)
        if media is not None:
            return [media]
        if part.values.keys() <= {"thought", "thoughtSignature"}:
            return [] if signature is None else [Reasoning("", signature, source, redacted)]
        return [Reasoning("", json_body(part.values).decode(), NAME, redacted=True)]

    def _result(self, response: Fields) -> Part:
        call_id, name = self._calls.answered(response.text("name") or "", response.text("id"))
        images = tuple(one for part in response.objects("parts") if isinstance(one := media_of(part), Image))
        return result_of(response.mapping("response"), call_id, name, images)
