"""Fit a request to what a format can say, and tell what that cost. The matrix decides; nothing is lost unsaid.

Used by every format's ``encode_request`` before it writes: what :func:`adapt` returns can be written as it is. Losses
come in a fixed order: the conversation, its parts, tools, the answer's form, sampling. With ``strict`` the first loss
is an error instead.

What is emulated: instructions in the middle of a conversation move into the user's next turn; a result's error mark
becomes a word before its text; a JSON schema becomes an instruction (whoever reads the answer checks it); stop
sequences that cannot be said are cut from the answer by whoever reads it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from byenatos_sdk.formats.capabilities import Capabilities, Limit
from byenatos_sdk.formats.matrix import PARAMETERS
from byenatos_sdk.formats.wire import Action, Loss
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import (
    Audio,
    Effort,
    File,
    Image,
    InferenceRequest,
    Message,
    Part,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    ToolCall,
    ToolResult,
    user,
)

__all__ = ["Adapted", "adapt", "budget_of", "effort_of", "schema_instruction", "schema_of"]

SYSTEM_MARK = "[system] "
"""Before an instruction that had to move into the user's turn."""
ERROR_MARK = "Error: "
"""Before the text of a tool's error, where results cannot be marked."""

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
    """A request that the format can say, what was lost, and the stop sequences that whoever reads must cut at."""

    request: InferenceRequest
    losses: tuple[Loss, ...]
    stops: tuple[str, ...] = ()


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
    fitting = _Fitting(to, strict=strict)
    fitted = fitting.fit(request)
    return Adapted(fitted, tuple(fitting.losses), fitting.stops)


class _Fitting:
    def __init__(self, to: Capabilities, *, strict: bool) -> None:
        self.to = to
        self.strict = strict
        self.losses: list[Loss] = []
        self.stops: tuple[str, ...] = ()

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
        messages = self._parts(request.messages)
        messages = self._system(messages)
        if to.alternate:
            messages = self._merged(messages)
        if to.user_needed and not any(message.role == "user" for message in messages):
            messages = self._with_user(messages)
        if not to.prefill and messages and messages[-1].role == "assistant":
            self.lose("messages", "dropped", f"{to.format} answers a partial answer instead of continuing it")
        changes: dict[str, Any] = {"messages": messages, "raw": request.raw and to.raw}
        changes |= self._tools(request)
        changes |= self._output(request, messages)
        changes["reasoning"] = self._reasoning(request.reasoning)
        changes["sampling"] = self._sampling(request.sampling)
        if request.metadata.get("end_user") and not to.end_user:
            self.lose("end_user", "dropped", f"{to.format} has no field for the end user")
            changes["metadata"] = {key: value for key, value in request.metadata.items() if key != "end_user"}
        return replace(request, **changes)

    # ---- the conversation ----------------------------------------------------------------------------------------

    def _parts(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        return tuple(replace(message, parts=tuple(self._fit_parts(message))) for message in messages)

    def _fit_parts(self, message: Message) -> Iterable[Part]:
        to = self.to
        for part in message.parts:
            if isinstance(part, Image):
                yield self._image(part)
            elif isinstance(part, Audio) and not to.audio:
                self._missing("audio", "sound")
            elif isinstance(part, File):
                self._source(part, to.files, "file")
                yield part
            elif isinstance(part, ToolResult):
                yield self._result(part)
            elif isinstance(part, Reasoning):
                kept = self._thought(part)
                if kept is not None:
                    yield kept
            elif isinstance(part, ToolCall) and part.signature is not None and not to.signatures:
                yield replace(part, signature=None)
            else:
                yield part

    def _missing(self, parameter: str, what: str) -> None:
        """Content that the user sent cannot be left out without changing what is asked: always an error.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(f"messages: {self.to.format} takes no {what}; swap to a model that does ({parameter})")

    def _image(self, image: Image) -> Image:
        self._source(image, self.to.images, "image")
        if image.detail != "auto" and not self.to.image_detail:
            self.lose("image.detail", "dropped", f"{self.to.format} has no detail of images")
            return replace(image, detail="auto")
        return image

    def _source(self, part: Image | File, allowed: frozenset[Any], what: str) -> None:
        if part.data is not None:
            found = "data"
        elif part.url is not None:
            found = "url"
        else:
            found = "file_id"
        if found not in allowed:
            self._missing(what, f"{what} by {found}" if allowed else f"{what}s")

    def _result(self, result: ToolResult) -> ToolResult:
        to = self.to
        if result.images and not to.tool_images:
            self.lose("tool_result.images", "dropped", f"{to.format} takes text from tools only")
            result = replace(result, images=())
        if result.is_error and not to.tool_errors:
            self.lose("tool_result.is_error", "emulated", f"{to.format} cannot mark errors: the text says it")
            result = replace(result, text=ERROR_MARK + result.text, is_error=False)
        return result

    def _thought(self, part: Reasoning) -> Reasoning | None:
        """Reasoning of earlier turns is no part of what is asked: what another vendor signed stays away unsaid."""
        to = self.to
        if part.signature is not None and to.signatures and part.source in {"", to.format}:
            return part
        if to.reasoning_history and part.text:
            return replace(part, signature=None, source="")
        return None

    def _system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        place = self.to.system
        if place == "anywhere":
            return messages
        leading = next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))
        head = messages[:leading]
        if place == "first" and len(head) > 1:
            self.lose("messages", "merged", f"{self.to.format} takes one system message")
            text = "\n\n".join(message.text for message in head)
            head = (Message("system", (Text(text),)),)
        return head + self._moved_system(messages[leading:])

    def _moved_system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Move later instructions to the front of the user's next turn; the last ones become a turn."""
        if not any(message.role == "system" for message in messages):
            return messages
        self.lose("messages", "moved", f"{self.to.format} takes instructions before the conversation only")
        moved: list[Message] = []
        waiting: list[Part] = []
        for message in messages:
            if message.role == "system":
                waiting.append(Text(SYSTEM_MARK + message.text))
            elif message.role == "user" and waiting:
                moved.append(Message("user", (*waiting, *message.parts)))
                waiting = []
            else:
                moved.append(message)
        if waiting:
            moved.append(Message("user", tuple(waiting)))
        return tuple(moved)

    def _merged(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        merged: list[Message] = []
        for message in messages:
            if merged and merged[-1].role == message.role and message.role in {"user", "assistant"}:
                self.lose("messages", "merged", f"{self.to.format} wants user and assistant to take turns")
                merged[-1] = Message(message.role, _joined(merged[-1].parts, message.parts))
            else:
                merged.append(message)
        return tuple(merged)

    def _with_user(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Turn the last instruction into the user's turn: there must be one."""
        if not messages:
            raise InvalidRequest("messages: expected at least one, found none")
        self.lose("messages", "moved", f"{self.to.format} wants a message of the user")
        for at in range(len(messages) - 1, -1, -1):
            if messages[at].role == "system":
                return (*messages[:at], Message("user", messages[at].parts), *messages[at + 1 :])
        return (user("…"), *messages)

    # ---- tools and the answer's form -----------------------------------------------------------------------------

    def _tools(self, request: InferenceRequest) -> dict[str, Any]:
        to = self.to
        if not request.tools:
            return {"parallel_tool_calls": None}
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
        instruction = Message("system", (Text(schema_instruction(schema)),))
        if kind == "json_schema" and "json_object" in self.to.outputs:
            self.lose("response_format", "emulated", f"{self.to.format} knows no schemas: an instruction says it")
            return {"response_format": {"type": "json_object"}, "messages": self._instructed(messages, instruction)}
        self.lose("response_format", "emulated", f"{self.to.format} has no JSON mode: an instruction says it")
        return {"response_format": None, "messages": self._instructed(messages, instruction)}

    def _instructed(self, messages: tuple[Message, ...], instruction: Message) -> tuple[Message, ...]:
        """Put ``instruction`` behind the other instructions that stand before the conversation."""
        leading = next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))
        if self.to.system == "first" and leading:
            text = f"{messages[0].text}\n\n{instruction.text}"
            return (Message("system", (Text(text),)), *messages[leading:])
        return (*messages[:leading], instruction, *messages[leading:])

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
            switched = effort == "none" or (effort == "medium" and "switch" in to.reasoning)
            if "budget" in to.reasoning and not switched:
                self.lose("reasoning.effort", "emulated", f"{to.format} knows budgets of tokens only")
                budget = budget_of(effort) if budget is None else budget
                effort = None
            elif effort not in {"none", "medium"}:
                self.lose("reasoning.effort", "clamped", f"{to.format} can only switch it on or off")
                effort = "medium"
        return ReasoningOptions(effort, budget, summary)

    # ---- sampling ------------------------------------------------------------------------------------------------

    def _sampling(self, sampling: Sampling) -> Sampling:
        changes: dict[str, Any] = {}
        for name in PARAMETERS:
            value = getattr(sampling, name)
            limit = self.to.parameters.get(name)
            if value in (None, (), {}):
                if limit is not None and limit.required is not None:
                    changes[name] = limit.required
            elif name == "stop":
                changes[name] = self._stop(value, limit)
            elif limit is None:
                self.lose(name, "dropped", f"{self.to.format} has no such parameter")
                changes[name] = {} if name == "logit_bias" else None
            elif name == "logit_bias":
                changes[name] = {token: self._clamped(name, bias, limit) for token, bias in value.items()}
            elif value == limit.omit_at:
                continue
            else:
                clamped = self._clamped(name, value, limit)
                changes[name] = int(clamped) if isinstance(value, int) else clamped
        return replace(sampling, **changes)

    def _stop(self, stops: tuple[str, ...], limit: Limit | None) -> tuple[str, ...]:
        """Return the stop sequences that can be said; the others are cut by whoever reads the answer."""
        if limit is None:
            self.lose("stop", "emulated", f"{self.to.format} has no stop sequences: the answer is cut at them")
            self.stops = stops
            return ()
        said = stops
        if limit.length is not None:
            said = tuple(stop for stop in said if len(stop) <= limit.length)
        if limit.items is not None:
            said = said[: limit.items]
        if said != stops:
            self.lose(
                "stop", "emulated", f"{self.to.format} takes fewer or shorter ones: the answer is cut at the rest"
            )
            self.stops = tuple(stop for stop in stops if stop not in said)
        return said

    def _clamped(self, name: str, value: float, limit: Limit) -> float:
        clamped = value
        if limit.low is not None and (value < limit.low or (limit.low_open and value == limit.low)):
            clamped = limit.low + (limit.step if limit.low_open else 0)
        elif limit.high is not None and (value > limit.high or (limit.high_open and value == limit.high)):
            clamped = limit.high - (limit.step if limit.high_open else 0)
        if clamped != value:
            self.lose(name, "clamped", f"{self.to.format} takes {_range(limit)}, found {value:g}")
        return clamped


def _range(limit: Limit) -> str:
    low = "" if limit.low is None else f"{'more than' if limit.low_open else 'at least'} {limit.low:g}"
    high = "" if limit.high is None else f"{'less than' if limit.high_open else 'at most'} {limit.high:g}"
    return " and ".join(text for text in (low, high) if text)


def _joined(first: tuple[Part, ...], second: tuple[Part, ...]) -> tuple[Part, ...]:
    """Put one message's parts behind another's, with a blank line where text meets text."""
    if first and second and isinstance(first[-1], Text) and isinstance(second[0], Text):
        return (*first[:-1], Text(f"{first[-1].text}\n\n{second[0].text}"), *second[1:])
    return first + second
