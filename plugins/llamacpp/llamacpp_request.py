"""Read a request: what the model is to continue, what holds its answer, and what would not be honoured.

Nothing is ignored in silence: what this driver cannot do is refused by name.
"""

from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import ContextLengthExceeded, InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Tool
from llamacpp_chat import ChatTemplate
from llamacpp_json import ANY_OBJECT
from llamacpp_model import LlamaModel
from llamacpp_sampling import check_sampling
from llamacpp_schema import schema_to_gbnf
from llamacpp_tools import Family, forced_grammar

__all__ = ["Plan", "check_request", "read_request"]

MAX_STOPS = 16
MAX_STOP = 256
MAX_TOOLS = 128



class Plan(NamedTuple):
    """What a request comes to.

    ``prompt``: its tokens. ``grammar``: GBNF, with what to call it in messages. ``family`` and ``names``: the tools that
    may be called. ``opened``: what of a call the prompt has begun already. ``said``: what this answer has said, at
    another instance.
    """

    prompt: list[int]
    stops: tuple[str, ...]
    lstrip: bool
    partial: bool
    grammar: tuple[str, str] | None = None
    family: Family | None = None
    names: frozenset[str] = frozenset()
    opened: str = ""
    said: str = ""


def check_request(request: InferenceRequest) -> None:
    """Refuse what means nothing or excludes each other.

    Raises:
        InvalidRequest: naming the field, what was expected and what was found.
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
    where, _ = _grammar_of(request)
    if "grammar" in request.extra and request.response_format not in (None, {"type": "text"}):
        raise InvalidRequest("extra.grammar and response_format: expected one of them, found both")
    if where and names and choice != "none":
        raise InvalidRequest(f"{where}: cannot be held together with tools; send none, or tool_choice 'none'")


def read_request(request: InferenceRequest, model: LlamaModel, template: ChatTemplate) -> Plan:
    """Return what ``request`` comes to with this model.

    Raises:
        InvalidRequest: see :func:`check_request`; or the template, a schema or a grammar cannot be used.
        ContextLengthExceeded: the prompt does not fit.
    """
    check_request(request)
    check_sampling(request.sampling, model.vocabulary)
    tools: tuple[Tool, ...] = () if request.tool_choice == "none" else request.tools
    chosen = tuple(tool for tool in tools if tool.name == request.tool_choice)
    prompt = template.prompt(request.messages, tools)
    where, grammar = _grammar_of(request)
    family, opened = (template.family, "") if tools else (None, "")
    text = prompt.text
    if family is not None and (chosen or request.tool_choice == "required"):
        where, grammar = "tools", forced_grammar(family, chosen or tools)
        opened = family.opening
        text += opened
    tokens = model.tokenize(text)
    if len(tokens) >= model.context_length:
        raise ContextLengthExceeded(
            f"expected fewer than {model.context_length} tokens, the context of this instance, found "
            f"{len(tokens)}; shorten the conversation or raise n_ctx"
        )
    return Plan(
        tokens,
        request.sampling.stop + prompt.stops,
        prompt.lstrip,
        prompt.partial,
        (where, grammar) if grammar else None,
        family,
        frozenset(tool.name for tool in tools),
        opened,
        request.partial[-request.continued :] if request.continued else "",
    )


def _grammar_of(request: InferenceRequest) -> tuple[str, str]:
    """Return the name and the text of the grammar that the request asks for, two empty strings without one."""
    form: Any = request.response_format
    given = request.extra.get("grammar")
    if given is not None:
        if not isinstance(given, str) or not given.strip():
            raise InvalidRequest(f"extra.grammar: expected a GBNF grammar as text, found {type(given).__name__}")
        return "extra.grammar", given
    kind = form.get("type") if isinstance(form, dict) else "text" if form is None else None
    if kind == "text":
        return "", ""
    if kind == "json_object":
        return "response_format", ANY_OBJECT
    if kind != "json_schema":
        raise InvalidRequest(f"response_format.type: expected text, json_object or json_schema, found {kind!r}")
    described = form.get("json_schema")
    if not isinstance(described, dict) or "schema" not in described:
        raise InvalidRequest("response_format.json_schema: expected an object with a schema, found none")
    return "response_format", schema_to_gbnf(described["schema"], "response_format")
