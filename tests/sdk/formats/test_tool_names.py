"""Names of tools that a vendor refuses go out under others, and nobody but the vendor sees those."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.protocol.errors import Unsupported
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Tool, ToolCall, ToolResult, user

DOTTED = "weather.get"
HISTORY = (
    user("How is it in Paris?"),
    Message("assistant", (ToolCall("1", DOTTED, '{"city":"Paris"}'),)),
    Message("tool", (ToolResult("1", "22", name=DOTTED),)),
)


def asked(*names, **more):
    more.setdefault("messages", (user("Hi"),))
    return InferenceRequest(tools=tuple(Tool(name) for name in names), **more)


def told(result):
    return [tool.name for tool in result.request.tools]


@pytest.mark.parametrize("to", MATRIX)
def test_a_dotted_name_goes_as_it_is_where_it_may_and_under_another_where_not(to):
    result = adapt(asked(DOTTED, messages=HISTORY), MATRIX[to])
    renamed = to not in {"gemini", "ollama", "llamacpp_server", "vllm"}
    name = "weather_get" if renamed else DOTTED
    parts = [part for message in result.request.messages for part in message.parts[:1]]
    assert told(result) == [name]
    assert (parts[1].name, parts[2].name) == (name, name)
    assert [loss.parameter for loss in result.losses] == (["tools.name"] if renamed else [])
    assert (result.tools.names if result.tools else {}) == ({"weather_get": DOTTED} if renamed else {})


def test_a_choice_follows_its_tool():
    assert adapt(asked("a.b", "c", tool_choice="a.b"), MATRIX["openai_chat"]).request.tool_choice == "a_b"


def test_names_that_would_become_one_stay_two():
    result = adapt(asked("a.b", "a_b", "a:b"), MATRIX["openai_chat"])
    first, second, third = told(result)
    assert second == "a_b"
    assert len({first, second, third}) == 3
    assert {result.tools.names[first], result.tools.names[third]} == {"a.b", "a:b"}


def test_a_long_name_is_cut_where_it_is_too_long():
    name = "n" * 100
    assert told(adapt(asked(name), MATRIX["openai_chat"])) == ["n" * 64]
    assert told(adapt(asked(name), MATRIX["anthropic_messages"])) == [name]


def test_a_result_whose_tool_is_not_named_stays_without_a_name():
    messages = (*HISTORY[:2], Message("tool", (ToolResult("1", "22"),)))
    result = adapt(asked(DOTTED, messages=messages), MATRIX["openai_chat"])
    assert result.request.messages[2].parts == (ToolResult("1", "22"),)


def test_the_report_names_the_first_and_counts_the_others():
    (loss,) = adapt(asked("a.b", "c.d", "e.f"), MATRIX["openai_chat"]).losses
    assert str(loss) == "tools.name: renamed: openai_chat refuses 'a.b': it is called 'a_b' there, and so on for 2 more"


def test_strict_refuses_it():
    with pytest.raises(Unsupported, match=r"^tools\.name: openai_chat refuses 'a\.b'"):
        adapt(asked("a.b"), MATRIX["openai_chat"], strict=True)


@pytest.mark.parametrize("to", MATRIX)
def test_every_format_hands_on_how_names_are_to_be_read(to):
    encoded = CompatibilityLayer().format(to).encode_request(asked("a.b"))
    assert (encoded.tools is not None) == bool(MATRIX[to].tool_name and to != "gemini")


@settings(deadline=None)
@given(st.sampled_from(sorted(MATRIX)), st.lists(st.text(min_size=1, max_size=80), max_size=5, unique=True))
def test_whatever_tools_are_called_each_gets_a_name_of_its_own_that_the_vendor_takes(to, names):
    result = adapt(asked(*names), MATRIX[to])
    pattern = MATRIX[to].tool_name
    assert all(not pattern or re.fullmatch(pattern, name) for name in told(result))
    back = result.tools.names if result.tools else {}
    assert [back.get(name, name) for name in told(result)] == names
    assert adapt(asked(*names), MATRIX[to]) == result
