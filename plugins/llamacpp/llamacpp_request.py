"""Read a request: what the model is to continue, what holds its answer, and what would not be honoured.

Nothing is ignored in silence: what this driver cannot do is refused by name.
"""

from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Tool
from llamacpp_chat import ChatTemplate, Prompt
from llamacpp_forms import Form, own_form
from llamacpp_json import ANY_OBJECT
from llamacpp_model import LlamaModel
from llamacpp_sampling import check_sampling
from llamacpp_schema import schema_to_gbnf
from llamacpp_tools import Family, either_grammar, forced_grammar

__all__ = ["Plan", "check_request", "count_tokens", "read_prompt", "read_request"]

MAX_STOPS = 16
MAX_STOP = 256
MAX_TOOLS = 128


class Plan(NamedTuple):
    """What holds the answer to a request.

    ``form``: the grammar that it keeps to. ``family``: how the model writes calls of the tools ``tools``;
    ``opened``: the beginning of a call that it must make. ``several``: whether it may make more than one.
    ``described``: a schema or tools say what the answer is made of.
    """

    form: Form | None
    tools: tuple[Tool, ...] = ()
    family: Family | None = None
    opened: str = ""
    several: bool = True
    described: bool = False


def check_request(request: InferenceRequest) -> Form | None:
    """Refuse what means nothing or excludes each other, and return the form that is asked for the answer.

    Raises:
        InvalidRequest: naming the field, what was expected and what was found; or a grammar cannot express a schema.
    """
    stops = request.sampling.stop
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"sampling.stop: expected at most {MAX_STOPS} texts, found {len(stops)}")
    if any(not 0 < len(stop) <= MAX_STOP for stop in stops):
        length = next(len(stop) for stop in stops if not 0 < len(stop) <= MAX_STOP)
        raise InvalidRequest(f"sampling.stop: expected texts of 1 to {MAX_STOP} characters, found one of {length}")
    if len(request.tools) > MAX_TOOLS:
        raise InvalidRequest(f"tools: expected at most {MAX_TOOLS}, found {len(request.tools)}")
    names = [tool.name for tool in request.tools]
    if len(set(names)) < len(names):
        raise InvalidRequest("tools: expected each name once")
    choice = request.tool_choice
    if choice not in {"auto", "none", "required", *names}:
        raise InvalidRequest(f"tool_choice: expected auto, none, required or the name of a tool, found {choice!r}")
    if choice == "required" and not names:
        raise InvalidRequest("tool_choice: expected tools to choose from, found none")
    own = own_form(request)
    if own and request.response_format not in (None, {"type": "text"}):
        raise InvalidRequest(f"{own.where} and response_format: expected one of them, found both")
    if request.raw and names and choice != "none":
        raise InvalidRequest("raw: a text without a chat template cannot have tools; send none, or tool_choice 'none'")
    if own and names and choice != "none":
        raise InvalidRequest(f"{own.where}: cannot be held together with tools; send none, or tool_choice 'none'")
    return own or _json_form(request)


def read_request(request: InferenceRequest, model: LlamaModel, family: Family) -> Plan:
    """Return what holds the answer to ``request``; ``family`` is how the model writes tool calls.

    Raises:
        InvalidRequest: see :func:`check_request`; or the sampling is none.
    """
    form = check_request(request)
    check_sampling(request.sampling, model.vocabulary)
    if not request.tools or request.tool_choice == "none":
        return Plan(form, described=(request.response_format or {}).get("type") == "json_schema")
    several = request.parallel_tool_calls is not False
    chosen = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
    if not chosen and request.tool_choice != "required":
        either = Form("response_format", either_grammar(family, request.tools, _schema_of(request))) if form else None
        return Plan(either, request.tools, family, several=several, described=True)
    forced = forced_grammar(family, chosen or request.tools)
    return Plan(Form("tools", forced), request.tools, family, family.opening, several, described=True)


def read_prompt(request: InferenceRequest, template: ChatTemplate, plan: Plan) -> Prompt:
    """Return what the model is to continue.

    Raises:
        InvalidRequest: the template refuses the conversation.
    """
    if request.raw:
        text = "".join(message.text for message in request.messages)
        return Prompt(text, (), partial=bool(request.continued))
    prompt = template.prompt(request.messages, plan.tools)
    return prompt._replace(text=prompt.text + plan.opened)


def count_tokens(request: InferenceRequest, model: LlamaModel, template: ChatTemplate) -> int:
    """Return how many tokens the prompt of ``request`` comes to.

    Raises:
        InvalidRequest: see :func:`read_request` and :func:`read_prompt`.
    """
    plan = read_request(request, model, template.family)
    return len(model.tokenize(read_prompt(request, template, plan).text))


def _json_form(request: InferenceRequest) -> Form | None:
    """Return the form of JSON that the request asks for, if it does."""
    form: Any = request.response_format
    kind = form.get("type") if isinstance(form, dict) else "text" if form is None else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Form("response_format", ANY_OBJECT)
    if kind != "json_schema":
        raise InvalidRequest(f"response_format.type: expected text, json_object or json_schema, found {kind!r}")
    return Form("response_format", schema_to_gbnf(_schema_of(request), "response_format"))


def _schema_of(request: InferenceRequest) -> Any:
    """Return the schema that the request asks its answer to match."""
    form: Any = request.response_format
    if form["type"] == "json_object":
        return {"type": "object"}
    described = form.get("json_schema")
    if not isinstance(described, dict) or "schema" not in described:
        raise InvalidRequest("response_format.json_schema: expected an object with a schema, found none")
    return described["schema"]
