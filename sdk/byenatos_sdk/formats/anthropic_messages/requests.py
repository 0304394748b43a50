"""Requests to ``/v1/messages`` and to the token count, as the vendor wants them.

Results of tools are blocks of the user's turn, all of one turn together and before anything else. The first turn is
the user's; a turn without content is left out, for the API refuses it.
"""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats.adapt import adapt, schema_of
from byenatos_sdk.formats.anthropic_messages.blocks import request_block
from byenatos_sdk.formats.anthropic_messages.marks import Marks
from byenatos_sdk.formats.anthropic_messages.schemas import closed
from byenatos_sdk.formats.anthropic_messages.shapes import NAME
from byenatos_sdk.formats.anthropic_messages.thinking import fit_thinking, write_thinking
from byenatos_sdk.formats.anthropic_messages.versions import capabilities_for, version_for
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for
from byenatos_sdk.formats.wire import Action, Encoded, Loss, WireRequest, json_body
from byenatos_sdk.protocol.errors import Unsupported
from byenatos_sdk.protocol.messages import (
    File,
    Image,
    InferenceRequest,
    Message,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["TOP", "encode_count_request", "encode_request"]

TOP = (
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "mcp_servers",
    "service_tier",
    "speed",
)
"""Fields of a request that only this API knows."""
_COUNTED = frozenset(
    {
        "cache_control",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
"""Fields of a request that matter to the count of its tokens; it refuses the others."""
_FILES_BETA = "files-api-2025-04-14"
_PLACEHOLDER = "…"
"""Stands where the API wants a turn of the user's and there is none."""
_GO_ON = "Continue."
"""Asks a model that continues no partial answer to go on."""
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request, in the API version that it names, or in the newest that can say it.

    Raises:
        InvalidRequest: the API cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    writing = _Writing(request, strict=strict, capabilities=capabilities)
    body = writing.body()
    if stream:
        body["stream"] = True
    wire = WireRequest("/v1/messages", json_body(body), writing.headers())
    return Encoded(wire, tuple(writing.losses), writing.stops, writing.tools)


def encode_count_request(request: InferenceRequest) -> WireRequest:
    """Ask how many tokens a request's input comes to.

    Raises:
        InvalidRequest: the API cannot say it.
    """
    writing = _Writing(request, strict=False, capabilities=None)
    body = {name: value for name, value in writing.body().items() if name in _COUNTED}
    return WireRequest("/v1/messages/count_tokens", json_body(body), writing.headers())


class _Writing:
    """One request on its way out."""

    def __init__(self, request: InferenceRequest, *, strict: bool, capabilities: Capabilities | None) -> None:
        self.extra: Mapping[str, Any] = extras_for(NAME, request.extra)
        self.version = version_for(request, self.extra)
        self.marks = Marks(request, self.extra)
        self.source = request  # marks are found by identity: what they stand on must stay alive
        named = bool(self.extra.get("anthropic_version"))
        to = capabilities_for(request, self.version, capabilities, named=named)
        form = request.response_format
        if form is not None and form.get("type") == "json_object":
            to = replace(to, outputs=frozenset())  # a schema must name every property: any object cannot be said
        self.strict = strict
        adapted = adapt(request, to, strict=strict)
        self.losses: list[Loss] = list(adapted.losses)
        self.stops = adapted.stops
        self.tools = adapted.tools
        limited = request.sampling.max_tokens is not None
        self.request = fit_thinking(adapted.request, self._lose, limited=limited)
        self.prefill = to.prefill

    def _lose(self, parameter: str, action: Action, reason: str) -> None:
        if self.strict:
            raise Unsupported(f"{parameter}: {reason}; leave it out, or allow adaptation")
        self.losses.append(Loss(parameter, action, reason))

    def headers(self) -> dict[str, str]:
        """Return the headers; the key is whoever sends the request to add."""
        headers = {"content-type": "application/json", "anthropic-version": self.version}
        named = self.extra.get("anthropic_beta")
        betas = named.split(",") if isinstance(named, str) and named else []
        parts = [part for message in self.request.messages for part in message.parts]
        files = any(isinstance(part, Image | File) and part.file_id is not None for part in parts)
        if files and not any(beta.strip().startswith("files-api-") for beta in betas):
            betas.append(_FILES_BETA)
        return headers | {"anthropic-beta": ",".join(betas)} if betas else headers

    def body(self) -> dict[str, Any]:
        request, sampling = self.request, self.request.sampling
        body: dict[str, Any] = {"model": request.model, "max_tokens": sampling.max_tokens}
        leading = next((at for at, one in enumerate(request.messages) if one.role != "system"), len(request.messages))
        self._system(body, request.messages[:leading])
        body["messages"] = self._turns(request.messages[leading:])
        for name in ("temperature", "top_p", "top_k"):
            if getattr(sampling, name) is not None:
                body[name] = getattr(sampling, name)
        if sampling.stop:
            body["stop_sequences"] = sampling.stop
        if request.metadata.get("end_user"):
            body["metadata"] = {"user_id": request.metadata["end_user"]}
        self._tools(body)
        schema = schema_of(request.response_format)
        if schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": closed(schema)}}
        write_thinking(body, request.reasoning, self.extra.get("thinking"))
        return body | {name: self.extra[name] for name in TOP if name in self.extra}

    # ---- the conversation ----------------------------------------------------------------------------------------

    def _system(self, body: dict[str, Any], messages: tuple[Message, ...]) -> None:
        blocks = []
        for message in messages:
            if message.text:
                marks = self.marks.of(message.parts[0])
                blocks.append({"type": "text", "text": message.text} | marks)
        if blocks:
            body["system"] = _shortest(blocks)

    def _turns(self, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        results = 0  # how many results the last turn begins with
        for message in messages:
            if message.role == "system":
                turns.append({"role": "system", "content": [{"type": "text", "text": message.text}]})
                results = 0
                continue
            role = "assistant" if message.role == "assistant" else "user"
            found, answers = self._blocks(message)
            joins = bool(turns) and turns[-1]["role"] == role == "user" and bool(answers or results)
            if joins:
                turns[-1]["content"][results:results] = answers
                turns[-1]["content"] += found
                results += len(answers)
            elif found or answers:
                turns.append({"role": role, "content": answers + found})
                results = len(answers)
        self._ends(turns)
        return [{"role": turn["role"], "content": _shortest(turn["content"])} for turn in turns]

    def _blocks(self, message: Message) -> tuple[list[Any], list[Any]]:
        """Return a message's blocks, results of tools apart."""
        blocks: list[Any] = []
        answers: list[Any] = []
        for part in message.parts:
            block = request_block(part)
            if block is None:
                continue
            if isinstance(block, dict):
                block |= self.marks.of(part)
            (answers if isinstance(part, ToolResult) else blocks).append(block)
        return blocks, answers

    def _ends(self, turns: list[dict[str, Any]]) -> None:
        """See to it that the user begins, and that a partial answer ends as the API wants it."""
        last = turns[-1] if turns else None
        if last is not None and last["role"] == "assistant" and self.prefill:
            block = last["content"][-1]
            if isinstance(block, dict) and block["type"] == "text" and block["text"] != block["text"].rstrip():
                self._lose("messages", "dropped", "the API refuses blanks at the end of a partial answer")
                block["text"] = block["text"].rstrip()
                if not block["text"]:
                    last["content"].pop()
                if not last["content"]:
                    turns.pop()
        elif last is not None and last["role"] == "assistant":
            turns.append({"role": "user", "content": [{"type": "text", "text": _GO_ON}]})
        if not turns or turns[0]["role"] != "user":
            self._lose("messages", "emulated", "the API wants the user to begin")
            turns.insert(0, {"role": "user", "content": [{"type": "text", "text": _PLACEHOLDER}]})

    # ---- tools ---------------------------------------------------------------------------------------------------

    def _tools(self, body: dict[str, Any]) -> None:
        request = self.request
        tools: list[Any] = [_tool(tool) | self.marks.of(tool) for tool in request.tools]
        own = self.extra.get("tools")
        tools += own if isinstance(own, list) else []
        choice = request.tool_choice
        if not tools:
            tools = _called(request.messages)
            choice = "none"
        if not tools:
            return
        body["tools"] = tools
        said: dict[str, Any] = {"type": _CHOICES[choice]} if choice in _CHOICES else {"type": "tool", "name": choice}
        if request.parallel_tool_calls is not None and choice != "none":
            said["disable_parallel_tool_use"] = not request.parallel_tool_calls
        if said != {"type": "auto"}:
            body["tool_choice"] = said


def _tool(tool: Tool) -> dict[str, Any]:
    block: dict[str, Any] = {"name": tool.name}
    if tool.description:
        block["description"] = tool.description
    block["input_schema"] = {"type": "object"} | tool.parameters
    if tool.strict is not None:
        block["strict"] = tool.strict
    return block


def _called(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Declare the tools that the conversation used: the API refuses calls of tools that nobody declares."""
    names = [part.name for one in messages for part in one.parts if isinstance(part, ToolCall)]
    return [{"name": name, "input_schema": {"type": "object"}} for name in dict.fromkeys(names)]


def _shortest(blocks: list[Any]) -> Any:
    """Return content as a plain string where it is one text without marks."""
    if len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks
