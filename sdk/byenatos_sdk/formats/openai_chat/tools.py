"""Tools, the choice among them, and the answer's form: OpenAI's fields and canonical ones, both ways."""

from typing import Any

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.wire import Reply, read_json
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Tool

__all__ = [
    "CUSTOM_SCHEMA",
    "CUSTOM_TOOLS",
    "custom_input",
    "custom_names",
    "read_format",
    "read_tools",
    "schema_format",
    "write_format",
    "write_tools",
]

CUSTOM_SCHEMA = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
"""What a tool of free text looks like to models, which know functions only: its call is written back as free text."""
CUSTOM_TOOLS = "custom_tools"
"""The field of ``extra`` that names the client's tools of free text, for whoever writes the answer."""


def _function(fields: Fields) -> Tool:
    return Tool(
        fields.need_text("name"),
        fields.text("description") or "",
        fields.mapping("parameters") or {},
        fields.flag("strict"),
    )


def _tool(fields: Fields) -> Tool:
    if "custom" in fields:
        custom = fields.need_inner("custom")
        return Tool(custom.need_text("name"), custom.text("description") or "", CUSTOM_SCHEMA)
    if fields.text("type") not in {None, "function"}:
        raise fields.wrong("type", "function or custom")
    return _function(fields.need_inner("function"))


def _choice(request: Fields, tools: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """Read the choice of tools; a choice among some of them leaves the others out."""
    choice = request.get("tool_choice")
    if choice is None:
        choice = request.get("function_call")
    if choice is None:
        return "auto", tools
    if isinstance(choice, str):
        if choice in {"auto", "none", "required", *(tool.name for tool in tools)}:  # by its name alone: TGI
            return choice, tools
        raise request.wrong("tool_choice", "none, auto, required or a function")
    fields = request.inner("tool_choice") or request.need_inner("function_call")
    if "allowed_tools" in fields:
        allowed = fields.need_inner("allowed_tools")
        kept = {_chosen(one) for one in allowed.objects("tools")}
        mode = allowed.text("mode") or "auto"
        if mode not in {"auto", "required"}:
            raise allowed.wrong("mode", "auto or required")
        return mode, tuple(tool for tool in tools if tool.name in kept)
    return _chosen(fields), tools


def _chosen(fields: Fields) -> str:
    for kind in ("function", "custom"):
        inner = fields.inner(kind)
        if inner is not None:
            return inner.need_text("name")
    return fields.need_text("name")


def read_tools(request: Fields) -> dict[str, Any]:
    """Read ``tools``, ``tool_choice``, ``parallel_tool_calls`` and their forerunners ``functions``, ``function_call``.

    Raises:
        InvalidRequest: something in them is wrong; the message says where.
    """
    tools = tuple(_tool(one) for one in request.objects("tools"))
    tools += tuple(_function(one) for one in request.objects("functions"))
    choice, tools = _choice(request, tools)
    if choice == "required" and not tools:
        raise InvalidRequest("tool_choice: expected tools to choose from, found none")
    if choice not in {"auto", "none", "required"} and choice not in {tool.name for tool in tools}:
        names = ", ".join(tool.name for tool in tools) or "none"
        raise InvalidRequest(f"tool_choice: expected one of the tools ({names}), found {choice[:80]!r}")
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": request.flag("parallel_tool_calls")}


def custom_names(reply: Reply) -> frozenset[str]:
    """Return the names of the client's tools of free text."""
    names = () if reply.asked is None else reply.asked.request.extra.get(CUSTOM_TOOLS, ())
    return frozenset(name for name in names if isinstance(name, str))


def custom_input(arguments: str) -> str:
    """Return the free text in a call's arguments; arguments of another form are the text themselves."""
    try:
        found = read_json(arguments.encode())
    except InvalidRequest:
        return arguments
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def write_tools(request: InferenceRequest) -> dict[str, Any]:
    """Write the tools and the choice among them."""
    if not request.tools:
        return {}
    body: dict[str, Any] = {"tools": [_written(tool) for tool in request.tools]}
    if request.tool_choice in {"none", "required"}:
        body["tool_choice"] = request.tool_choice
    elif request.tool_choice != "auto":
        body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice}}
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _written(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def schema_format(schema: dict[str, Any], name: str = "answer") -> dict[str, Any]:
    """Return the response format that asks for JSON under ``schema``."""
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def read_format(request: Fields) -> dict[str, Any] | None:
    """Read ``response_format``; a schema beside ``json_object`` (llama.cpp) or ``json`` (TGI) asks for that schema.

    So does ``json`` in ``structured_outputs`` (vLLM); regular expressions and grammars have no canonical form.

    Raises:
        InvalidRequest: it is none; the message says where.
    """
    form = request.inner("response_format")
    if form is None:
        structured = request.inner("structured_outputs")
        if structured is None or not isinstance(structured.get("json"), dict):
            return {"type": "json_object"} if structured is not None and structured.get("json_object") else None
        return schema_format(structured.get("json"))
    kind = form.need_text("type")
    match kind:
        case "text":
            return None
        case "json_object" | "json":
            schema = form.mapping("schema") or form.mapping("value")
            return {"type": "json_object"} if schema is None else schema_format(schema)
        case "json_schema":
            inner = form.need_inner("json_schema")
            if inner.mapping("schema") is None and "name" not in inner:
                raise inner.wrong("schema", "a JSON schema")
            return {"type": "json_schema", "json_schema": {k: v for k, v in inner.values.items() if v is not None}}
    raise form.wrong("type", "text, json_object or json_schema")


def write_format(form: dict[str, Any]) -> dict[str, Any]:
    """Write ``response_format``; a schema must have a name, and gets one where the other side had none to give."""
    inner = form.get("json_schema")
    return form | {"json_schema": {"name": "answer"} | inner} if isinstance(inner, dict) else form
