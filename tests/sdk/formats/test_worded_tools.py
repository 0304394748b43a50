"""Tools for models that know none: what they are told, and what of their text is a call."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import ToolReading
from byenatos_sdk.formats.worded_tools import MAX_CALL, WordedCalls
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import (
    Image,
    InferenceRequest,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    assistant,
    system,
    user,
)

LOOK = Tool("look", "Look at it", {"type": "object", "properties": {"at": {"type": "string"}}})
WAIT = Tool("wait")
ABLE = replace(MATRIX["openai_chat"], tools=False, worded_tools=True)
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "the sky"}}\n</tool_call>'


def adapted(to=ABLE, **fields):
    fields = {"messages": (system("Be brief."), user("Look up.")), "tools": (LOOK, WAIT), **fields}
    return adapt(InferenceRequest(**fields), to)


def instruction(result):
    return result.request.messages[1].text


def read(*pieces, reason="stop", **reading):
    calls = WordedCalls(ToolReading(worded=("look", "wait"), **reading))
    found = [one for piece in pieces for one in calls.feed(piece)] + calls.end(reason)
    return [
        "".join(one) if text else next(iter(one))
        for text, group in itertools.groupby(found, lambda one: isinstance(one, str))
        for one in ([list(group)] if text else ([call] for call in group))
    ]


# ---- what goes out -----------------------------------------------------------------------------------------------


def test_it_is_off_unless_it_is_allowed():
    with pytest.raises(Unsupported, match="tools: openai_chat has none"):
        adapted(replace(ABLE, worded_tools=False))


def test_a_vendor_that_knows_tools_is_told_of_them_as_it_wants():
    result = adapted(replace(MATRIX["openai_chat"], worded_tools=True))
    assert (result.request.tools, result.losses, result.tools) == ((LOOK, WAIT), (), None)


def test_tools_are_told_of_behind_the_other_instructions_and_the_report_says_so():
    result = adapted()
    assert [message.role for message in result.request.messages] == ["system", "system", "user"]
    assert '"name":"look","description":"Look at it"' in instruction(result)
    assert result.request.tools == ()
    assert [(loss.parameter, loss.action) for loss in result.losses] == [("tools", "emulated")]
    assert result.tools == ToolReading(worded=("look", "wait"))


def test_a_choice_is_said_in_words():
    assert "must call" not in instruction(adapted())
    assert "You must call one of them" in instruction(adapted(tool_choice="required"))
    named = adapted(tool_choice="wait")
    assert "You must call wait" in instruction(named)
    assert "look" not in instruction(named)
    assert named.tools.worded == ("wait",)
    assert "one call at most" in instruction(adapted(parallel_tool_calls=False))


def test_without_a_choice_of_calling_the_model_is_told_nothing():
    result = adapted(tool_choice="none")
    assert [message.role for message in result.request.messages] == ["system", "user"]
    assert result.tools is None


def test_a_choice_of_a_tool_that_is_not_there_is_refused():
    with pytest.raises(InvalidRequest, match="found 'jump'"):
        adapted(tool_choice="jump")


def test_strict_refuses_it():
    with pytest.raises(Unsupported, match="tools: openai_chat has none: they are told of"):
        adapt(InferenceRequest((user("Hi"),), tools=(LOOK,)), ABLE, strict=True)


def test_earlier_calls_and_results_go_as_text():
    messages = (
        user("Q"),
        Message("assistant", (Text("Hm."), ToolCall("1", "look", '{"at": "Ü"}'), ToolCall("2", "wait", ""))),
        Message("tool", (ToolResult("1", "blue", name="look"),)),
        Message("tool", (ToolResult("2", "no", is_error=True, images=(Image(data=b"x"),)),)),
        user("And?"),
    )
    result = adapted(messages=messages)
    _, _, called, answered, last = result.request.messages
    assert [part.text for part in called.parts] == [
        "Hm.",
        '\n<tool_call>\n{"name":"look","arguments":{"at":"Ü"}}\n</tool_call>',
        '\n<tool_call>\n{"name":"wait","arguments":{}}\n</tool_call>',
    ]
    assert answered.role == "user"
    assert [part.text for part in answered.parts] == [
        '<tool_response>\n{"name":"look","content":"blue"}\n</tool_response>\n',
        '<tool_response>\n{"content":"Error: no"}\n</tool_response>\n',
    ]
    assert last == user("And?")
    assert [loss.parameter for loss in result.losses] == ["tools", "tool_result.images"]
    assert result.tools.made == 2


@pytest.mark.parametrize("to", MATRIX)
def test_every_format_hands_on_how_calls_are_to_be_read(to):
    able = replace(MATRIX[to], tools=False, worded_tools=True)
    encoded = (
        CompatibilityLayer()
        .format(to)
        .encode_request(InferenceRequest((user("Hi"),), tools=(LOOK,)), capabilities=able)
    )
    assert encoded.tools == ToolReading(worded=("look",))
    assert b"Look at it" in encoded.wire.body
    assert "tools" not in msgspec.json.decode(encoded.wire.body)


# ---- what comes back ---------------------------------------------------------------------------------------------


def test_a_call_becomes_a_call_and_the_text_before_it_stays():
    assert read("Let me see. " + CALL) == ["Let me see. ", ToolCallDelta("call_0_look", "look", '{"at":"the sky"}')]


def test_calls_follow_those_of_earlier_turns_in_number():
    calls = read(f'{CALL}\n<tool_call>{{"name": "wait"}}</tool_call>', made=3)
    assert [call.id for call in calls] == ["call_3_look", "call_4_wait"]


def test_a_list_of_calls_is_several():
    assert len(read('<tool_call>[{"name": "wait", "arguments": {}}, {"name": "wait"}]</tool_call>')) == 2


def test_where_one_was_asked_for_the_first_is_the_last():
    assert len(read(CALL, " and ", CALL, several=False)) == 1


def test_what_the_model_invents_as_the_tools_answer_is_left_out():
    assert len(read(CALL + "\n<tool_res", "ponse>\nblue\n</tool_response>\nIt is blue.")) == 1


def test_text_behind_a_call_stays():
    assert read(CALL + "\nThere.")[1:] == ["There."]


def test_a_call_that_was_cut_off_is_left_out_and_one_without_its_closing_is_whole():
    assert read("Hm. " + CALL[:30], reason="length") == ["Hm. "]
    assert read("Hm. " + CALL[:30], reason=None) == ["Hm. "]
    assert read(CALL.removesuffix("\n</tool_call>"))[0].name == "look"


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "jump", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "look", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "look", "arguments": "{"}</tool_call>',
        "<tool_call>look up</tool_call>",
        "<tool_call>[1, 2]</tool_call>",
        "a < b, a <tool b",
        "to be <tool_call>",
        "<tool_response> by itself",
    ],
)
def test_what_is_no_call_of_a_known_tool_is_text(text):
    assert read(text) == [text]


def test_what_never_closes_is_text_before_it_fills_the_memory():
    calls = WordedCalls(ToolReading(worded=("look",)))
    held = "<tool_call>" + "x" * MAX_CALL
    assert calls.feed(held) == [held]


PIECES = st.lists(st.sampled_from([CALL, "<tool_call>", "</tool_call>", "<tool_response>", "a ", "<", "{}", "\n"]))


@settings(deadline=None)
@given(PIECES, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_however_the_text_is_cut_the_same_is_read(pieces, cuts, several):
    text = "".join(pieces)
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    whole = read(text, several=several)
    assert read(*(text[first:last] for first, last in itertools.pairwise(edges)), several=several) == whole
    assert read(*text, several=several) == whole


def test_a_conversation_without_tools_is_left_as_it_is():
    messages = (user("Q"), assistant("A"), user("Q2"))
    result = adapted(messages=messages, tools=())
    assert (result.request.messages, result.losses, result.tools) == (messages, (), None)
