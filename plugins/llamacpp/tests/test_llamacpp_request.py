"""Tests of what a request must be, before any model sees it."""

import importlib.util
from typing import Any

import pytest

if importlib.util.find_spec("llama_cpp") is None:
    pytest.skip("llama-cpp-python is not installed", allow_module_level=True)

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Sampling, Tool, user
from llamacpp_request import check_request

TOOLS = (Tool("add"), Tool("subtract"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling": Sampling(stop=("",))}, "sampling.stop: expected texts of 1 to 256 characters, found one of 0"),
        ({"sampling": Sampling(stop=("x",) * 17)}, "sampling.stop: expected at most 16 texts, found 17"),
        ({"sampling": Sampling(stop=("x" * 257,))}, "found one of 257"),
        ({"tools": TOOLS, "tool_choice": "divide"}, "tool_choice: expected auto, none, required or the name of a tool"),
        ({"tool_choice": "required"}, "tool_choice: expected tools to choose from, found none"),
        ({"tools": (Tool("a"), Tool("a"))}, "tools: expected each name once"),
        ({"tools": tuple(Tool(str(n)) for n in range(129))}, "tools: expected at most 128, found 129"),
        ({"tools": TOOLS, "extra": {"grammar": 'root ::= "a"'}}, "extra.grammar: cannot be held together"),
        ({"tools": TOOLS, "raw": True}, "raw: a text without a chat template cannot have tools"),
        ({"response_format": {"type": "xml"}}, "response_format.type: expected text, json_object or json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema: expected an object with a schema"),
        ({"extra": {"grammar": 7}}, "extra.grammar: expected a GBNF grammar as text, found 7"),
        (
            {"extra": {"grammar": 'root ::= "a"'}, "response_format": {"type": "json_object"}},
            "expected one of them, found both",
        ),
    ],
)
def test_what_means_nothing_or_excludes_each_other_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_request(InferenceRequest((user("Hi"),), **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "add"},
        {"tools": TOOLS, "tool_choice": "none", "response_format": {"type": "json_object"}},
        {"tools": TOOLS, "response_format": {"type": "json_object"}},
        {"response_format": {"type": "text"}, "extra": {"grammar": 'root ::= "a"'}},
    ],
)
def test_what_can_be_served_passes(fields: dict[str, Any]) -> None:
    check_request(InferenceRequest((user("Hi"),), **fields))
