"""Fit a request to what a format can say, and tell what that cost. The matrix decides; nothing is lost unsaid.

Used by every format's ``encode_request`` before it writes: what :func:`adapt` returns can be written as it is. Losses
come in a fixed order: the conversation, its parts, tools, the answer's form, sampling. With ``strict`` the first loss
is an error instead.

What is emulated: instructions in the middle of a conversation move into the user's next turn; a result's error mark
becomes a word before its text; tools whose names are refused get others (``tool_names``), and where a model knows no
tools and that is allowed, they are told of, called and answered in words (``worded_tools``); a JSON schema becomes an
instruction (whoever reads the answer checks it); stop sequences that cannot be said are cut from the answer by whoever
reads it.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.conversation import fit_conversation, instructed
from byenatos_sdk.formats.sampling import fit_sampling
from byenatos_sdk.formats.tool_names import fit_tool_names
from byenatos_sdk.formats.wire import Action, Loss, ToolReading
from byenatos_sdk.formats.worded_tools import in_words, reading_of, tool_instruction
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import (
    Effort,
    InferenceRequest,
    Message,
    ReasoningOptions,
    ToolCall,
    ToolResult,
)

__all__ = ["Adapted", "adapt", "budget_of", "effort_of", "schema_instruction", "schema_of"]

_BUDGETS: dict[Effort, int] = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
    "max": 32768,
}


class Adapted(NamedTuple):
    """A request that the format can say, what was lost, and what whoever reads the answer must know.

    That is the stop sequences to cut at, and how to find the calls of tools.
    """

    request: InferenceRequest
    losses: tuple[Loss, ...]
    stops: tuple[str, ...] = ()
    tools: ToolReading | None = None


def effort_of(budget: int) -> Effort:
    """Return the effort that a budget of thinking tokens comes nearest to, never less."""
    return next((effort for effort, tokens in _BUDGETS.items() if tokens >= budget), "max")


def budget_of(effort: Effort) -> int:
    """Return the budget of thinking tokens that stands for ``effort``; 0 for ``none``."""
    return _BUDGETS[effort]


def schema_of(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the JSON schema that a response format asks for, ``None`` if it asks for none."""
    if response_format is None or response_format.get("type") != "json_schema":
        return None
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else {}


def schema_instruction(schema: dict[str, Any] | None) -> str:
    """Return the sentence that asks for JSON where the format cannot."""
    if schema is None:
        return "Answer with one JSON object and nothing else: no explanation, no code fence."
    text = msgspec.json.encode(schema).decode()
    return f"Answer with one JSON value that is valid under this JSON schema and with nothing else: {text}"


def adapt(request: InferenceRequest, to: Capabilities, *, strict: bool = False) -> Adapted:
    """Return ``request`` as ``to`` can say it.

    Raises:
        Unsupported: ``strict`` is set and something would be lost, or something can neither be said nor left out.
    """
    if not request.raw and any(limit.raw_only for limit in to.parameters.values()):
        to = replace(to, parameters={name: limit for name, limit in to.parameters.items() if not limit.raw_only})
    fitting = _Fitting(to, strict=strict)
    fitted = fitting.fit(request)
    return Adapted(fitted, tuple(fitting.losses), fitting.stops, fitting.tools)


class _Fitting:
    def __init__(self, to: Capabilities, *, strict: bool) -> None:
        self.to = to
        self.strict = strict
        self.losses: list[Loss] = []
        self.stops: tuple[str, ...] = ()
        self.tools: ToolReading | None = None

    def lose(self, parameter: str, action: Action, reason: str) -> None:
        """Note a loss, once for each parameter and action.

        Raises:
            Unsupported: nothing may be lost.
        """
        if self.strict:
            raise Unsupported(f"{parameter}: {reason}; leave it out, or allow adaptation")
        loss = Loss(parameter, action, reason)
        if loss not in self.losses:
            self.losses.append(loss)

    def fit(self, request: InferenceRequest) -> InferenceRequest:
        to = self.to
        if request.raw and not to.raw:
            self.lose("raw", "dropped", f"{to.format} always applies the model's chat template")
        instruction = ""
        if to.worded_tools and not to.tools and not request.raw:
            request, instruction = self._in_words(request)
        messages = fit_conversation(request.messages, to, self.lose)
        if instruction:
            messages = instructed(messages, instruction, to)
        changes: dict[str, Any] = {"raw": request.raw and to.raw}
        changes |= self._tools(request)
        request, names = fit_tool_names(replace(request, messages=messages, **changes), to, self.lose)
        if names:
            self.tools = ToolReading(names)
        messages = request.messages
        changes = self._output(request, messages)
        changes["reasoning"] = self._reasoning(request.reasoning)
        changes["sampling"], self.stops = fit_sampling(request.sampling, self.to, self.lose)
        if request.metadata.get("end_user") and not to.end_user:
            self.lose("end_user", "dropped", f"{to.format} has no field for the end user")
            changes["metadata"] = {key: value for key, value in request.metadata.items() if key != "end_user"}
        return replace(request, **changes)

    # ---- tools and the answer's form -----------------------------------------------------------------------------

    def _in_words(self, request: InferenceRequest) -> tuple[InferenceRequest, str]:
        """Return a request that says in text what it says of tools, and what the model is to be told of them."""
        _check_choice(request)
        used = any(isinstance(part, ToolCall | ToolResult) for one in request.messages for part in one.parts)
        if not used and not request.tools:
            return request, ""
        self.lose("tools", "emulated", f"{self.to.format} has none: they are told of, called and answered in words")
        choice = request.tool_choice
        offered = tuple(tool for tool in request.tools if choice in {"auto", "required", tool.name})
        instruction = ""
        if offered:
            self.tools = reading = reading_of(request.messages, offered, several=request.parallel_tool_calls)
            instruction = tool_instruction(offered, choice, several=reading.several)
        messages = in_words(request.messages, self.lose)
        return replace(request, messages=messages, tools=(), tool_choice="auto"), instruction

    def _tools(self, request: InferenceRequest) -> dict[str, Any]:
        to = self.to
        if not request.tools:
            return {"parallel_tool_calls": None}
        _check_choice(request)
        if not to.tools:
            raise Unsupported(f"tools: {to.format} has none; leave them out, or swap to a model that has")
        changes: dict[str, Any] = {}
        choice = request.tool_choice
        kind = choice if choice in {"none", "auto", "required"} else "named"
        if kind not in to.tool_choices:
            changes |= self._choice(request, kind)
        if request.parallel_tool_calls is not None and not to.parallel_switch:
            if request.parallel_tool_calls is False:
                self.lose("parallel_tool_calls", "dropped", f"{to.format} cannot forbid parallel calls")
            changes["parallel_tool_calls"] = None
        return changes

    def _choice(self, request: InferenceRequest, kind: str) -> dict[str, Any]:
        """Say a choice of tools that the format does not know by another one, or by leaving tools out."""
        to = self.to
        if kind == "none":
            self.lose("tool_choice", "emulated", f"{to.format} cannot forbid calls: the tools are left out")
            return {"tools": (), "tool_choice": "auto"}
        if kind == "required" and "named" in to.tool_choices and len(request.tools) == 1:
            self.lose("tool_choice", "emulated", f"{to.format} cannot require a call: the only tool is named")
            return {"tool_choice": request.tools[0].name}
        if kind == "named":
            chosen = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
            self.lose("tool_choice", "emulated", f"{to.format} cannot name a tool: the others are left out")
            return {"tools": chosen, "tool_choice": "required" if "required" in to.tool_choices else "auto"}
        self.lose("tool_choice", "dropped", f"{to.format} cannot require a call")
        return {"tool_choice": "auto"}

    def _output(self, request: InferenceRequest, messages: tuple[Message, ...]) -> dict[str, Any]:
        form = request.response_format
        kind = None if form is None else form.get("type")
        if kind in {None, "text"} or kind in self.to.outputs:
            return {}
        schema = schema_of(form)
        if kind == "json_object" and "json_schema" in self.to.outputs:
            self.lose("response_format", "emulated", f"{self.to.format} knows schemas only: any object will do")
            anything: dict[str, Any] = {"name": "answer", "schema": {"type": "object"}}
            return {"response_format": {"type": "json_schema", "json_schema": anything}}
        messages = instructed(messages, schema_instruction(schema), self.to)
        if kind == "json_schema" and "json_object" in self.to.outputs:
            self.lose("response_format", "emulated", f"{self.to.format} knows no schemas: an instruction says it")
            return {"response_format": {"type": "json_object"}, "messages": messages}
        self.lose("response_format", "emulated", f"{self.to.format} has no JSON mode: an instruction says it")
        return {"response_format": None, "messages": messages}

    def _reasoning(self, options: ReasoningOptions | None) -> ReasoningOptions | None:
        if options is None or options == ReasoningOptions():
            return None
        to = self.to
        if not to.reasoning:
            self.lose("reasoning", "dropped", f"{to.format} cannot ask for reasoning")
            return None
        effort, budget, summary = options.effort, options.budget, options.summary
        if summary is not None and "summary" not in to.reasoning:
            self.lose("reasoning.summary", "dropped", f"{to.format} cannot ask for a summary")
            summary = None
        if budget is not None and "budget" not in to.reasoning:
            self.lose("reasoning.budget", "clamped", f"{to.format} knows no budgets of tokens")
            effort, budget = effort or effort_of(budget), None
        if effort == "none" and "always" in to.reasoning:
            self.lose("reasoning.effort", "clamped", f"{to.format} always thinks")
            effort = "minimal"
        if effort is not None and "effort" not in to.reasoning:
            if effort == "medium" and "switch" in to.reasoning:
                pass  # that is what switching it on means
            elif "budget" in to.reasoning and effort != "none":
                self.lose("reasoning.effort", "emulated", f"{to.format} knows budgets of tokens only")
                budget = budget_of(effort) if budget is None else budget
                effort = None
            elif effort not in {"none", "medium"}:
                self.lose("reasoning.effort", "clamped", f"{to.format} can only switch it on or off")
                effort = "medium"
        return ReasoningOptions(effort, budget, summary)


def _check_choice(request: InferenceRequest) -> None:
    """See that the choice of tools is one of them, or a word.

    Raises:
        InvalidRequest: it is not.
    """
    named = {tool.name for tool in request.tools} | {"none", "auto", "required"}
    if request.tools and request.tool_choice not in named:
        raise InvalidRequest(f"tool_choice: expected one of {sorted(named)}, found {request.tool_choice!r}")
