"""Tests of answers that are held: grammars, JSON, schemas, tool calls, log probabilities; with the real model."""

import json
import math
import random
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("jsonschema")

import jsonschema
from gbnf_writer import write
from test_llamacpp_schema import SCHEMAS

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Failure,
    Logprobs,
    Message,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    assistant,
    user,
)

pytestmark = pytest.mark.model

GREEDY: dict[str, Any] = {"temperature": 0.0}
CAPITAL = user("What is the capital of France? Answer in one sentence.")
CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "size": {"type": "integer", "minimum": 10, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["old", "new"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}
WEATHER = Tool(
    "get_weather",
    "The weather of a city",
    {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]},
)
ADD = Tool(
    "add",
    "Add two numbers",
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
)

Ask = Callable[..., Any]
Load = Callable[..., Any]


def schema(of: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": of, "strict": True}}}


@pytest.mark.parametrize(
    ("name", "sampling"),
    [("smollm2", GREEDY), ("smollm2", {"temperature": 1.5, "seed": 3}), ("gemma-3-270m", {"temperature": 1.0})],
)
def test_an_answer_matches_its_schema_greedy_or_not(load: Load, ask: Ask, name: str, sampling: dict[str, Any]) -> None:
    call = ask(load(name), user("Describe Paris."), asking=schema(CITY), max_tokens=120, **sampling)
    assert call.wait().reason == "stop"
    jsonschema.validate(json.loads(call.text), CITY)


def test_llama_cpp_takes_the_grammar_of_every_schema_and_what_it_allows(load: Load) -> None:
    from llamacpp_grammar import Grammar
    from llamacpp_schema import schema_to_gbnf

    model = load("smollm2")._engine._model
    for one in SCHEMAS:
        text = schema_to_gbnf(one, "s")
        for seed in range(3):
            grammar = Grammar(model.vocab, text, "s")
            with suppress(InvalidRequest):  # this vocabulary has no tokens for the rarest characters
                tokens = model.tokens_of(write(text, random.Random(seed)))
                assert grammar.accept_all(tokens), (one, seed)
            grammar.close()


def test_json_object_gives_an_object(load: Load, ask: Ask) -> None:
    asking = {"response_format": {"type": "json_object"}}
    call = ask(load("smollm2"), user("Describe Paris as a short JSON object."), asking=asking, max_tokens=150, **GREEDY)
    assert call.wait().reason == "stop"
    assert isinstance(json.loads(call.text), dict)


def test_a_grammar_holds_the_answer_even_in_bytes_of_characters(load: Load, ask: Ask) -> None:
    asking = {"extra": {"grammar": 'root ::= "é😀" ("yes" | "no")'}}
    call = ask(load("smollm2"), CAPITAL, asking=asking, **GREEDY)
    assert call.wait().reason == "stop"
    assert call.text in {"é😀yes", "é😀no"}
    assert all("\ufffd" not in delta.text for delta in call.deltas if isinstance(delta, TextDelta))


@pytest.mark.parametrize(
    ("extra", "pattern"),
    [
        ({"grammar": {"type": "regex", "value": r"\d{4}-\d\d"}}, r"\d{4}-\d\d"),
        ({"structured_outputs": {"choice": ["Lyon", "Paris, France"]}}, "Lyon|Paris, France"),
    ],
)
def test_a_form_in_another_server_s_words_holds_the_answer(
    load: Load, ask: Ask, extra: dict[str, Any], pattern: str
) -> None:
    call = ask(load("smollm2"), CAPITAL, asking={"extra": extra}, **GREEDY)
    assert call.wait().reason == "stop"
    assert re.fullmatch(pattern, call.text)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('root ::= root "a"', "extra.grammar: llama.cpp cannot use this grammar: unsupported grammar, left recursion"),
        ('root ::= "a"{5000}', "extra.grammar: llama.cpp cannot use this grammar"),
        ("root ::= a", "extra.grammar: line 1: expected every rule that is used to be defined"),
        ('root ::= ("a"?){2000}', "extra.grammar: rule 'root': expected at most 10000 ways on"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused_and_disturbs_nobody(
    load: Load, ask: Ask, grammar: str, message: str
) -> None:
    driver = load("smollm2")
    beside = ask(driver, CAPITAL, max_tokens=8, **GREEDY)
    end = ask(driver, CAPITAL, asking={"extra": {"grammar": grammar}}).wait()
    assert isinstance(end, Failure)
    assert (end.code, end.message[: len(message)]) == ("invalid_request", message)
    assert isinstance(beside.wait(), object)
    assert beside.text


def test_a_raw_text_of_no_token_is_refused_where_the_model_begins_with_none(load: Load, ask: Ask) -> None:
    end = ask(load("smollm2"), user(""), asking={"raw": True}).wait()
    assert isinstance(end, Failure)
    assert (end.code, "found an empty one" in end.message) == ("invalid_request", True)
    assert ask(load("gemma-3-270m"), user(""), asking={"raw": True}, max_tokens=2).wait().reason == "length"


def test_a_grammar_that_opens_more_with_every_letter_ends_its_own_answer_only(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamacpp_sampling.MOST_GRAMMAR_S", 0.05)
    text = 'root ::= e\ne ::= "§" | "§" e e | "§" f e\nf ::= "§" | "§" f f | "§" e f'
    driver = load("smollm2")
    beside = ask(driver, CAPITAL, max_tokens=8, **GREEDY)
    end = ask(driver, CAPITAL, max_tokens=200, asking={"extra": {"grammar": text}}).wait()
    assert isinstance(end, Failure)
    assert end.code == "invalid_request"
    assert "leaves so much open that one token took" in end.message
    beside.wait()
    assert beside.text


def test_a_held_answer_goes_on_in_its_grammar_wherever_it_was_cut(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    whole = ask(driver, user("Describe Paris."), asking=schema(CITY), max_tokens=120, **GREEDY)
    whole.wait()
    for place in range(1, len(whole.text), 31):
        part = whole.text[:place]
        asking = {**schema(CITY), "continued": place}
        rest = ask(driver, user("Describe Paris."), assistant(part), asking=asking, max_tokens=120, **GREEDY)
        rest.wait()
        jsonschema.validate(json.loads(part + rest.text), CITY)


@pytest.mark.parametrize(
    ("choice", "names", "sampling"),
    [("required", {"get_weather", "add"}, {"temperature": 1.0, "seed": 5}), ("add", {"add"}, GREEDY)],
)
def test_a_forced_call_comes_whole_and_matches_its_schema(
    load: Load, ask: Ask, choice: str, names: set[str], sampling: dict[str, Any]
) -> None:
    asking = {"tools": (WEATHER, ADD), "tool_choice": choice}
    call = ask(load("smollm2"), user("What is 3 + 4?"), asking=asking, max_tokens=120, **sampling)
    assert call.wait().reason == "tool_calls"
    (delta,) = call.deltas[:-1]
    assert isinstance(delta, ToolCallDelta)
    assert delta.name in names
    tool = {"add": ADD, "get_weather": WEATHER}[delta.name]
    jsonschema.validate(json.loads(delta.arguments), tool.parameters)


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_that_may_call_tools_calls_one_or_matches_its_schema(load: Load, ask: Ask, seed: int) -> None:
    asking = {"tools": (WEATHER, ADD)} | schema(CITY)
    call = ask(load("smollm2"), user("Describe Paris."), asking=asking, max_tokens=150, temperature=1.0, seed=seed)
    reason = call.wait().reason
    assert reason in {"stop", "tool_calls"}
    if reason == "tool_calls":
        (delta,) = call.deltas[:-1]
        tool = {"add": ADD, "get_weather": WEATHER}[delta.name]
        jsonschema.validate(json.loads(delta.arguments), tool.parameters)
    else:
        jsonschema.validate(json.loads(call.text), CITY)


def test_a_call_that_must_be_made_is_made_whatever_a_text_must_match(load: Load, ask: Ask) -> None:
    asking = {"tools": (WEATHER, ADD), "tool_choice": "add"} | schema(CITY)
    call = ask(load("smollm2"), user("What is 3 + 4?"), asking=asking, max_tokens=120, **GREEDY)
    assert call.wait().reason == "tool_calls"
    assert call.deltas[0].name == "add"


def test_a_call_that_is_cut_off_never_leaves(load: Load, ask: Ask) -> None:
    asking = {"tools": (WEATHER, ADD), "tool_choice": "required"}
    call = ask(load("smollm2"), user("What is 3 + 4?"), asking=asking, max_tokens=10, **GREEDY)
    assert call.wait().reason == "length"
    assert call.deltas[:-1] == []


def test_results_of_tools_reach_a_model_whose_template_knows_none(load: Load, ask: Ask) -> None:
    call = ask(
        load("smollm2"),
        user("What is the weather in Paris?"),
        Message("assistant", (ToolCall("call00001", "get_weather", '{"city": "Paris"}'),)),
        Message("tool", (ToolResult("call00001", "sunny, 25 degrees"),)),
        asking={"tools": (WEATHER,)},
        max_tokens=40,
        **GREEDY,
    )
    call.wait()
    assert "25 degrees" in call.text


def test_tools_that_must_not_be_used_are_not_mentioned(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    plain = ask(driver, CAPITAL, max_tokens=8, **GREEDY)
    none = ask(driver, CAPITAL, asking={"tools": (WEATHER,), "tool_choice": "none"}, max_tokens=8, **GREEDY)
    assert plain.wait().usage.input_tokens == none.wait().usage.input_tokens
    assert plain.text == none.text


def test_log_probabilities_follow_the_text_that_they_belong_to(load: Load, ask: Ask) -> None:
    call = ask(load("smollm2"), CAPITAL, logprobs=3, stop=("xyz",), **GREEDY)
    call.wait()
    said = reported = ""
    for delta in call.deltas[:-1]:
        if isinstance(delta, Logprobs):
            reported += "".join(token.token for token in delta.tokens)
            for token in delta.tokens:
                assert len(token.top) == 3
                assert token.top[0] == (token.token, token.logprob)
                assert 0 < sum(math.exp(value) for _, value in token.top) <= 1 + 1e-6
        else:
            said += delta.text
        assert said.startswith(reported)
    assert reported == said == call.text


def test_log_probabilities_stop_with_the_text(load: Load, ask: Ask) -> None:
    call = ask(load("smollm2"), CAPITAL, logprobs=0, stop=("France",), **GREEDY)
    end = call.wait()
    assert (end.reason, end.detail, end.stop_sequence) == ("stop", "stop_sequence", "France")
    tokens = [token for delta in call.deltas if isinstance(delta, Logprobs) for token in delta.tokens]
    assert "".join(token.token for token in tokens).startswith(call.text)
    assert tokens[-1].token == " France"  # of which the space was said
    assert call.text == "The capital of "
    assert all(token.top == () for token in tokens)
