"""Requests to ``/v1/messages`` and to the token count, as clients send them. What is unknown is ignored."""

from typing import Any

import msgspec

from byenatos_sdk.formats.anthropic_messages.blocks import opaque, parts_of, raw_blocks, result_of
from byenatos_sdk.formats.anthropic_messages.marks import BLOCK_FIELDS, place_marks
from byenatos_sdk.formats.anthropic_messages.requests import TOP
from byenatos_sdk.formats.anthropic_messages.shapes import (
    NAME,
    NEW_VERSION,
    Content,
    Request,
    ResultBlock,
    TextBlock,
    ToolBlock,
    ToolChoice,
    ToolDefinition,
    WireMessage,
    read_block,
)
from byenatos_sdk.formats.anthropic_messages.thinking import read_thinking
from byenatos_sdk.formats.anthropic_messages.versions import check_sampling
from byenatos_sdk.formats.calls import CallBook
from byenatos_sdk.formats.extras import kept
from byenatos_sdk.formats.wire import Decoded, WireRequest, read_as, read_object
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Part, Role, Sampling, Text, Tool

__all__ = ["decode_count_request", "decode_request"]

_requests = msgspec.json.Decoder(Request)
_tools = msgspec.json.Decoder(ToolDefinition)
_MARKS = ("cache_control", "citations", "context")
_TOOL_MARKS = ("allowed_callers", "cache_control", "defer_loading", "eager_input_streaming", "input_examples")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request; one to count tokens needs no ``max_tokens``.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    read = read_as(_requests, wire.body)
    path = wire.path.partition("?")[0]
    limit = 0 if read.max_tokens is None and path.endswith("/count_tokens") else read.max_tokens
    if limit is None or limit < 0:
        raise InvalidRequest(f"max_tokens: expected an integer of at least 0, found {limit}")
    return Decoded(_request(read, wire), stream=bool(read.stream), path=path)


def decode_count_request(wire: WireRequest) -> InferenceRequest:
    """Read a client's request to count tokens.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    return _request(read_as(_requests, wire.body), wire)


def _request(read: Request, wire: WireRequest) -> InferenceRequest:
    version = wire.headers.get("anthropic-version")
    sampling = Sampling(
        temperature=read.temperature,
        top_p=read.top_p,
        top_k=read.top_k,
        max_tokens=read.max_tokens,
        stop=tuple(read.stop_sequences or ()),
    )
    check_sampling(sampling, version or "")
    body = read_object(wire.body)
    reading = _Reading(version or "")
    messages = reading.messages(read)
    tools, own_tools = reading.tools(read)
    reasoning, thinking = read_thinking(read, body.get("thinking"))
    extra = {name: body.get(name) for name in TOP}
    extra |= {"anthropic_version": version, "anthropic_beta": wire.headers.get("anthropic-beta"), "thinking": thinking}
    extra |= {"tools": own_tools or None}
    extra[BLOCK_FIELDS] = place_marks([message.parts for message in messages], tools, reading.marks)
    form = read.output_format
    if read.output_config is not None and read.output_config.format is not None:
        form = read.output_config.format
    if form is not None and form.type != "json_schema":
        raise InvalidRequest(f"output_config.format.type: expected json_schema, found {form.type!r}")
    choice, parallel = _choice(read.tool_choice)
    if choice not in {"auto", "none"} and not own_tools:
        names = [tool.name for tool in tools]
        if choice not in names and not (choice == "required" and names):
            raise InvalidRequest(
                f"tool_choice: expected one of the tools ({', '.join(names) or 'none'}), found another"
            )
    return InferenceRequest(
        tuple(messages),
        model=read.model,
        sampling=sampling,
        tools=tuple(tools),
        tool_choice=choice,
        response_format=None
        if form is None
        else {"type": "json_schema", "json_schema": {"name": "answer", "schema": form.schema or {}}},
        metadata={"end_user": read.metadata.user_id} if read.metadata is not None and read.metadata.user_id else {},
        extra=kept(NAME, extra),
        parallel_tool_calls=parallel,
        reasoning=reasoning,
    )


def _choice(choice: ToolChoice | None) -> tuple[str, bool | None]:
    if choice is None:
        return "auto", None
    parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    if choice.type == "tool":
        if not choice.name:
            raise InvalidRequest("tool_choice.name: expected a tool's name, found none")
        return choice.name, parallel
    if choice.type not in _CHOICES:
        raise InvalidRequest(f"tool_choice.type: expected auto, any, tool or none, found {choice.type!r}")
    return _CHOICES[choice.type], parallel


class _Reading:
    """One request on its way in."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.marks: dict[int, dict[str, Any]] = {}
        self._calls = CallBook()

    def _mark(self, part: Part | Tool, fields: dict[str, Any]) -> None:
        found = {name: value for name, value in fields.items() if value not in (None, [])}
        if found:
            self.marks[id(part)] = found

    # ---- the conversation ----------------------------------------------------------------------------------------

    def messages(self, read: Request) -> list[Message]:
        """Return the conversation, instructions first.

        Raises:
            InvalidRequest: a part of it is wrong, or there is none.
        """
        if not read.messages:
            raise InvalidRequest("messages: expected at least one, found none")
        found = [Message("system", (part,)) for part in self._texts(read.system, "system")]
        for at, message in enumerate(read.messages):
            found += self._message(message, f"messages[{at}]")
        return found

    def _texts(self, content: Content | None, where: str) -> list[Text]:
        if isinstance(content, str):
            return [Text(content)] if content else []
        texts: list[Text] = []
        for raw, at in raw_blocks(content, where):
            kind, block = read_block(raw, at)
            if not isinstance(block, TextBlock):
                raise InvalidRequest(f"{at}.type: expected text, found {kind!r}")
            texts.append(Text(block.text))
            self._mark(texts[-1], {"cache_control": block.cache_control})
        return texts

    def _message(self, message: WireMessage, where: str) -> list[Message]:
        if message.role == "system":
            return [Message("system", tuple(self._texts(message.content, f"{where}.content")))]
        if message.role not in {"user", "assistant"}:
            raise InvalidRequest(f"{where}.role: expected user, assistant or system, found {message.role!r}")
        role: Role = "user" if message.role == "user" else "assistant"
        if isinstance(message.content, str):
            return [Message(role, (Text(message.content),))]
        results: list[Part] = []
        others: list[Part] = []
        for raw, at in raw_blocks(message.content, f"{where}.content"):
            kind, block = read_block(raw, at)
            self._check(kind, message.role, at, known=block is not None)
            if block is None:
                others.append(opaque(raw))
                continue
            if isinstance(block, ResultBlock):
                _, name = self._calls.answered("", block.tool_use_id)
                result, beside = result_of(block, name, at)
                parts: list[Part] = [result]
                results.append(result)
                others += beside
            else:
                if isinstance(block, TextBlock) and block.citations and role == "user" and self.version >= NEW_VERSION:
                    raise InvalidRequest(f"{at}.citations: expected none in a turn of the user's, found some")
                parts = parts_of(block, kind, at)
                others += parts
            if isinstance(block, ToolBlock):
                self._calls.called(block.name, block.id)
            self._mark(parts[-1], {name: getattr(block, name, None) for name in _MARKS})
        found = [Message("tool", tuple(results))] if results else []
        return [*found, Message(role, tuple(others))] if others or not results else found

    def _check(self, kind: str, role: str, where: str, *, known: bool) -> None:
        """Refuse blocks that cannot stand where they do.

        Raises:
            InvalidRequest: the block at ``where`` is one of them.
        """
        if role == "user":
            wrong = not known or kind in {"thinking", "redacted_thinking", "tool_use"}
            expected = "text, image, document, search_result or tool_result"
        else:
            refused = {"document"} if self.version >= NEW_VERSION else set()
            wrong = kind in {"tool_result", *refused}
            expected = "text, thinking or tool_use"
        if wrong:
            raise InvalidRequest(f"{where}.type: expected {expected} in a turn of the {role}'s, found {kind!r}")

    # ---- tools ---------------------------------------------------------------------------------------------------

    def tools(self, read: Request) -> tuple[list[Tool], list[Any]]:
        """Return the client's own tools, and the vendor's as they were given.

        Raises:
            InvalidRequest: one has no name or schema.
        """
        tools: list[Tool] = []
        own: list[Any] = []
        for at, raw in enumerate(read.tools or ()):
            found = read_as(_tools, bytes(raw), f"tools[{at}]")
            fields: dict[str, Any] = msgspec.json.decode(raw)
            if found.type not in {None, "custom"}:
                own.append(fields)
                continue
            if not found.name:
                raise InvalidRequest(f"tools[{at}].name: expected a name, found none")
            if found.input_schema is None:
                raise InvalidRequest(f"tools[{at}].input_schema: expected a JSON schema, found none")
            tools.append(Tool(found.name, found.description or "", found.input_schema or {}, found.strict))
            self._mark(tools[-1], {name: fields.get(name) for name in _TOOL_MARKS})
        return tools, own
