"""How families of models write tool calls, and how they are told about tools.

A model that was trained for tools has its way in its chat template, which also tells it what tools there are. All
others are told in a system prompt to write like the Hermes family, which most fine-tunes have seen.

| family | a call |
|---|---|
| hermes | ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, also lists (SmolLM2) and tags (Qwen3-Coder, GLM) |
| llama | ``{"name": …, "parameters": {…}}``, the whole answer, perhaps after ``<|python_tag|>`` |
| mistral | ``[TOOL_CALLS][{"name": …, "arguments": {…}}]``, or ``[TOOL_CALLS]name[ARGS]{…}`` |
| functionary | ``<function=name>{…}</function>`` |
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from byenatos_sdk.protocol.messages import Tool
from llamacpp_regex import literal
from llamacpp_schema import Converter

__all__ = ["Calls", "Family", "as_json", "either_grammar", "family_of", "forced_grammar", "instruct", "value_of"]

MAX_CALL = 256 << 10
MAX_NAME = 200


class Calls(NamedTuple):
    """What was read: calls as JSON objects (none if it was malformed), and where they end in the text."""

    calls: list[dict[str, Any]]
    end: int


class Family:
    """One way to write calls.

    ``marks`` begin one; ``bare``: an answer that is a JSON object may be one, too. ``between`` two calls means nothing.
    """

    name = "hermes"
    marks: tuple[str, ...] = ("<tool_call>",)
    bare = False
    between = " \n"
    opening = "<tool_call>\n"
    closing = "\n</tool_call>"
    arguments = "arguments"

    def find(self, text: str, *, begun: bool) -> int | None:
        """Return where a call begins in ``text``; ``begun``: the answer had text before it."""
        places = [at for mark in self.marks if (at := text.find(mark)) >= 0]
        if self.bare and not begun and text.lstrip().startswith("{"):
            places.append(len(text) - len(text.lstrip()))
        return min(places, default=None)

    def begins(self, text: str) -> bool:
        """Say whether ``text``, which began like a call, was meant as one."""
        return text.startswith(self.marks) or '"name"' in text

    def read(self, text: str, *, ended: bool) -> Calls | None:
        """Read the calls at the start of ``text``; ``None`` while they are not whole. ``ended``: no more text comes."""
        if len(text) > MAX_CALL:
            return Calls([], len(text))
        return self._read(text, ended=ended)

    def _read(self, text: str, *, ended: bool) -> Calls | None:
        start = len("<tool_call>")
        end = text.find("</tool_call>", start)
        if end >= 0:
            after = end + len("</tool_call>")
            body = text[start:end].strip()
            return Calls(
                _tagged(body) if body.startswith("<function=") or "<arg_key>" in body else _listed(body), after
            )
        found = _whole_json(text, start) if ended else None
        return None if found is None else Calls(_listed(text[start:found]), len(text))

    def call(self, name: str, arguments: str) -> str:
        """Return the GBNF expression of a call of ``name`` whose arguments match ``arguments``, after ``opening``."""
        key = literal(json.dumps(self.arguments))
        return (
            f'"{{" space "\\"name\\":" space {literal(json.dumps(name))} "," space {key} ":" space '
            f'{arguments} space "}}" {literal(self.closing) if self.closing else ""}'
        )


class _Llama(Family):
    name = "llama"
    marks = ("<|python_tag|>",)
    bare = True
    between = " \n;"
    opening = ""
    closing = ""
    arguments = "parameters"

    def _read(self, text: str, *, ended: bool) -> Calls | None:  # noqa: ARG002  (it ends with its JSON)
        start = len("<|python_tag|>") if text.startswith("<|python_tag|>") else 0
        rest = text[start:].lstrip()
        if rest and not rest.startswith("{"):
            return Calls([], len(text))
        end = _whole_json(text, start)
        return None if end is None else Calls(_listed(text[start:end]), end)


class _Mistral(Family):
    name = "mistral"
    marks = ("[TOOL_CALLS]",)
    opening = "[TOOL_CALLS]["
    closing = "]"

    def _read(self, text: str, *, ended: bool) -> Calls | None:  # noqa: ARG002  (it ends with its JSON)
        start = len("[TOOL_CALLS]")
        head = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*(?=\{)").match(text, start)
        rest = text[start:].lstrip()
        if head is None and rest and rest[0] not in "[{":
            return Calls([], len(text)) if "{" in rest or len(rest) > MAX_NAME else None
        end = _whole_json(text, head.end() if head else start)
        if end is None:
            return None
        if head:
            return Calls([{"name": head[1], "arguments": value_of(text[head.end() : end])}], end)
        return Calls(_listed(text[start:end]), end)


class _Functionary(Family):
    name = "functionary"
    marks = ("<function=",)
    opening = "<function="
    closing = "</function>"

    def _read(self, text: str, *, ended: bool) -> Calls | None:
        head = re.compile(r"<function=([\w.-]+)>").match(text)
        if head is None:
            return Calls([], len(text)) if ">" in text else None
        end = _whole_json(text, head.end())
        if end is None:
            return None
        closed = text.find("</function>", end)
        if closed < 0 and not ended:
            return None
        after = closed + len("</function>") if closed >= 0 else len(text)
        return Calls([{"name": head[1], "arguments": value_of(text[head.end() : end])}], after)

    def call(self, name: str, arguments: str) -> str:
        return f"{literal(name + '>')} {arguments} {literal(self.closing)}"


def family_of(template: str) -> Family | None:
    """Return the family that a chat template belongs to; ``None`` if it is none of these."""
    if "[TOOL_CALLS]" in template:
        return _Mistral()
    if "<tool_call>" in template:
        return Family()
    if "<function=" in template:
        return _Functionary()
    if "<|python_tag|>" in template or ("<|start_header_id|>" in template and "tools" in template):
        return _Llama()
    return None


def as_json(tool: Tool) -> dict[str, Any]:
    """Return ``tool`` as chat templates expect it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def instruct(tools: Sequence[Tool]) -> str:
    """Return the system prompt for models whose template knows no tools."""
    listed = "\n".join(json.dumps(as_json(tool), ensure_ascii=False) for tool in tools)
    return (
        "You can call functions. These are their signatures:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "To call one, answer with a JSON object with its name and arguments in tool_call tags:\n"
        '<tool_call>\n{"name": "the function\'s name", "arguments": {"the argument": "its value"}}\n</tool_call>'
    )


def forced_grammar(family: Family, tools: Sequence[Tool]) -> str:
    """Return the grammar of exactly one call of one of ``tools``, after the family's ``opening``.

    Raises:
        InvalidRequest: a grammar cannot express a tool's parameters.
    """
    converter = Converter("tools")
    converter.rules["root"] = _one_call(converter, family, tools)
    return converter.text()


def either_grammar(family: Family, tools: Sequence[Tool], schema: Any) -> str:
    """Return the grammar of one call of one of ``tools``, the family's ``opening`` included, or of JSON by ``schema``.

    Raises:
        InvalidRequest: a grammar cannot express the schema, or a tool's parameters.
    """
    converter = Converter("response_format")
    said = converter.convert(schema)
    opening = literal(family.opening) if family.opening else ""
    converter.rules["root"] = f"{said} | {opening} ({_one_call(converter, family, tools)})"
    return converter.text()


def _one_call(converter: Converter, family: Family, tools: Sequence[Tool]) -> str:
    calls = []
    for tool in tools:
        parameters = {"type": "object", **tool.parameters}
        converter.where = f"tools: {tool.name}"
        calls.append(converter.rule(family.call(tool.name, converter.convert(parameters))))
    return " | ".join(calls)


def _listed(body: str) -> list[dict[str, Any]]:
    found = value_of(body)
    calls = found if isinstance(found, list) else [found]
    return calls if all(isinstance(call, dict) for call in calls) else []


def _tagged(body: str) -> list[dict[str, Any]]:
    """Read calls in tags: Qwen3-Coder's ``<function=name><parameter=key>value</parameter></function>``, or GLM's."""
    if "<arg_key>" in body:
        name, _, rest = body.partition("<arg_key>")
        pairs = re.findall(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", "<arg_key>" + rest, re.DOTALL)
        return [{"name": name.strip(), "arguments": {key.strip(): _value(value) for key, value in pairs}}]
    calls = []
    for name, inner in re.findall(r"<function=([^>\n]+)>(.*?)</function>", body, re.DOTALL):
        pairs = re.findall(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", inner, re.DOTALL)
        calls.append({"name": name.strip(), "arguments": {key.strip(): _value(value) for key, value in pairs}})
    return calls


def _value(text: str) -> Any:
    found = value_of(text)
    return text if found is None and text.strip() != "null" else found


def value_of(text: str) -> Any:
    """Return the value of a JSON text, ``None`` if it is none that others read: without NaN, Infinity and 1e999."""
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a number, found {text}")
    return number


def _whole_json(text: str, start: int) -> int | None:
    """Return where the object or list that begins at ``start`` ends, ``None`` while it is open."""
    depth, in_string, escaped = 0, False, False
    for at in range(start, len(text)):
        character = text[at]
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
            if depth <= 0:
                return at + 1
    return None
