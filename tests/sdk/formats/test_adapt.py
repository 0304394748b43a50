import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.formats.adapt import adapt, budget_of, effort_of
from byenatos_sdk.formats.capabilities import Capabilities, Limit
from byenatos_sdk.formats.matrix import MATRIX, PARAMETERS
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import (
    Audio,
    File,
    Image,
    InferenceRequest,
    Message,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)

ASK = (user("Hi"),)
LOOK = Tool("look", "Look at it", {"type": "object"})
WAIT = Tool("wait")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


def adapted(to, **fields):
    fields.setdefault("messages", ASK)
    return adapt(InferenceRequest(**fields), MATRIX[to] if isinstance(to, str) else to)


def lost(result):
    return [(loss.parameter, loss.action) for loss in result.losses]


@pytest.mark.parametrize("to", MATRIX)
def test_a_plain_question_loses_nothing_anywhere(to):
    result = adapted(to)
    assert (result.request.messages, result.losses, result.stops) == (ASK, (), ())


# ---- sampling ----------------------------------------------------------------------------------------------------

EVERYTHING = Sampling(0.5, 0.5, 40, 0.1, 64, ("END",), 7, 0.5, 0.5, 1.5, {5: 1.0}, 2)


@pytest.mark.parametrize("to", MATRIX)
def test_what_a_format_has_no_parameter_for_is_dropped_and_told_and_nothing_else(to):
    result = adapted(to, sampling=EVERYTHING)
    said = {name for name, limit in MATRIX[to].parameters.items() if not limit.raw_only}
    missing = [name for name in PARAMETERS if name not in said]
    assert [loss.parameter for loss in result.losses] == missing
    assert all(to in loss.reason for loss in result.losses)
    for name in PARAMETERS:
        kept = getattr(result.request.sampling, name)
        assert kept == (getattr(EVERYTHING, name) if name not in missing else getattr(Sampling(), name))


@pytest.mark.parametrize("to", MATRIX)
def test_where_there_is_no_such_parameter_a_value_that_does_nothing_is_not_lost(to):
    idle = Sampling(presence_penalty=0.0, frequency_penalty=0, repetition_penalty=1.0, min_p=0.0, top_k=0)
    for loss in adapted(to, sampling=idle).losses:
        assert (loss.parameter, loss.reason) == ("top_k", f"{to} cannot switch it off")


def test_what_raw_prompts_alone_have_is_kept_for_them():
    result = adapted("huggingface_tgi", sampling=Sampling(top_k=40, repetition_penalty=1.5), raw=True)
    assert (result.request.sampling, result.losses) == (Sampling(top_k=40, repetition_penalty=1.5), ())


def test_strict_refuses_instead_and_names_the_parameter():
    with pytest.raises(Unsupported, match=r"^seed: anthropic_messages has no such parameter; leave it out"):
        adapt(InferenceRequest(ASK, sampling=Sampling(seed=1)), MATRIX["anthropic_messages"], strict=True)


@pytest.mark.parametrize(
    ("to", "given", "taken"),
    [
        ("anthropic_messages", 1.5, 1.0),
        ("openai_chat", 2.5, 2.0),
        ("dashscope", 2.0, 1.99),
        ("dashscope", 2, 1.99),
        ("huggingface_tgi", -1.0, 0.01),
    ],
)
def test_a_value_out_of_range_is_clamped_and_told(to, given, taken):
    result = adapted(to, sampling=Sampling(temperature=given))
    assert result.request.sampling.temperature == pytest.approx(taken)
    assert lost(result) == [("temperature", "clamped")]
    assert f"found {given:g}" in result.losses[0].reason


def test_a_value_that_is_said_by_leaving_it_out_is_no_loss():
    result = adapted("huggingface_tgi", sampling=Sampling(temperature=0, top_p=1.0))
    assert (result.request.sampling, result.losses) == (Sampling(temperature=0, top_p=1.0), ())


def test_a_top_k_that_is_off_is_not_clamped_to_the_one_likeliest_token():
    result = adapted("gemini", sampling=Sampling(top_k=0))
    assert (result.request.sampling.top_k, lost(result)) == (None, [("top_k", "dropped")])


def test_many_biases_out_of_range_are_one_loss():
    result = adapted("openai_chat", sampling=Sampling(logit_bias={1: 200, 2: -150, 3: 5}))
    assert (result.request.sampling.logit_bias, lost(result)) == ({1: 100, 2: -100, 3: 5}, [("logit_bias", "clamped")])


def test_whole_numbers_stay_whole():
    result = adapted("hunyuan", sampling=Sampling(seed=0))
    assert (result.request.sampling.seed, lost(result)) == (1, [("seed", "clamped")])
    assert isinstance(result.request.sampling.seed, int)


def test_a_parameter_that_the_format_wants_always_is_filled_in():
    assert adapted("anthropic_messages").request.sampling.max_tokens == 4096
    assert adapted("anthropic_messages", sampling=Sampling(max_tokens=5)).request.sampling.max_tokens == 5


@pytest.mark.parametrize(
    ("to", "said", "cut"),
    [
        ("openai_responses", (), ("a", "b", "c", "d", "e", "f" * 21)),
        ("openai_chat", ("a", "b", "c", "d"), ("e", "f" * 21)),
        ("gemini", ("a", "b", "c", "d", "e"), ("f" * 21,)),
        ("qianfan", ("a", "b", "c", "d"), ("e", "f" * 21)),
        ("ollama", ("a", "b", "c", "d", "e", "f" * 21), ()),
    ],
)
def test_stop_sequences_that_cannot_be_said_are_left_to_whoever_reads(to, said, cut):
    result = adapted(to, sampling=Sampling(stop=("a", "b", "c", "d", "e", "f" * 21)))
    assert (result.request.sampling.stop, result.stops) == (said, cut)
    assert lost(result) == ([("stop", "emulated")] if cut else [])


# ---- the conversation --------------------------------------------------------------------------------------------

MIDWAY = (system("A"), system("B"), user("Q1"), assistant("A1"), system("French"), user("Q2"))


def test_instructions_in_the_middle_stay_where_the_format_takes_them():
    assert adapted("openai_chat", messages=MIDWAY).request.messages == MIDWAY


def test_instructions_in_the_middle_move_into_the_next_turn_of_the_user():
    result = adapted("gemini", messages=MIDWAY)
    moved = Message("user", (Text("[system] French"), Text("Q2")))
    assert result.request.messages == (*MIDWAY[:4], moved)
    assert lost(result) == [("messages", "moved")]


def test_an_instruction_at_the_end_becomes_a_turn():
    assert adapted("gemini", messages=(user("Q"), system("S"))).request.messages[-1] == user("[system] S")


def test_a_format_with_one_system_message_gets_them_merged():
    result = adapted("hunyuan", messages=MIDWAY[:3])
    assert result.request.messages == (system("A\n\nB"), user("Q1"))
    assert lost(result) == [("messages", "merged")]


def test_turns_of_the_same_side_are_merged_where_they_must_alternate_and_none_is_lost():
    messages = (user("a"), user("b"), assistant("c"), assistant("d"), user("e"))
    result = adapted("qianfan", messages=messages)
    assert result.request.messages == (user("a\n\nb"), assistant("c\n\nd"), user("e"))
    assert lost(result) == [("messages", "merged")]


def test_a_conversation_of_instructions_alone_gets_a_turn_of_the_user():
    result = adapted("anthropic_messages", messages=(system("A"), system("B")))
    assert result.request.messages == (system("A"), user("B"))


def test_no_messages_at_all_are_refused():
    with pytest.raises(InvalidRequest, match="at least one"):
        adapted("openai_chat", messages=())


@pytest.mark.parametrize(
    ("to", "part"),
    [
        ("anthropic_messages", Audio(b"RIFF")),
        ("ollama", Image(url="https://example.com/a.png")),
        ("gemini", Image(file_id="file-1")),
        ("ollama", File("a.pdf", "application/pdf", b"%PDF")),
    ],
)
def test_content_that_cannot_be_said_is_refused_for_without_it_the_question_is_another(to, part):
    with pytest.raises(Unsupported, match=f"{to} takes no"):
        adapted(to, messages=(Message("user", (Text("What is this?"), part)),))


def test_how_closely_to_look_at_an_image_is_dropped_and_told():
    image = Image("image/png", b"x", detail="high")
    result = adapted("gemini", messages=(Message("user", (image,)),))
    assert result.request.messages[0].parts == (Image("image/png", b"x"),)
    assert lost(result) == [("image.detail", "dropped")]
    assert adapted("openai_chat", messages=(Message("user", (image,)),)).losses == ()


def test_an_error_of_a_tool_is_said_in_words_where_it_cannot_be_marked():
    call = Message("assistant", (ToolCall("1", "look"),))
    messages = (user("Q"), call, Message("tool", (ToolResult("1", "gone", is_error=True),)))
    result = adapted("openai_chat", messages=messages, tools=(LOOK,))
    assert result.request.messages[2].parts == (ToolResult("1", "Error: gone"),)
    assert lost(result) == [("tool_result.is_error", "emulated")]
    assert adapted("anthropic_messages", messages=messages, tools=(LOOK,)).losses == ()


def test_reasoning_goes_back_to_whoever_signed_it_and_to_nobody_else():
    thought = Reasoning("hm", "signed", "anthropic_messages")
    messages = (user("Q"), Message("assistant", (thought, Text("A"))), user("Q2"))
    assert adapted("anthropic_messages", messages=messages).request.messages == messages
    assert adapted("gemini", messages=messages).request.messages[1].parts == (Reasoning("hm"), Text("A"))
    result = adapted("openai_chat", messages=messages)
    assert result.request.messages[1].parts == (Text("A"),)
    assert lost(result) == [("reasoning", "dropped")]


# ---- tools and the answer's form ---------------------------------------------------------------------------------


def test_tools_are_refused_where_there_are_none():
    with pytest.raises(Unsupported, match="tools: tgi has none"):
        adapted(Capabilities("tgi", {}), tools=(LOOK,))


@pytest.mark.parametrize(
    ("to", "choice", "tools", "expected"),
    [
        ("ollama", "none", (), "auto"),
        ("ollama", "look", (LOOK,), "auto"),
        ("ollama", "required", (LOOK, WAIT), "auto"),
        ("hunyuan", "required", (LOOK, WAIT), "auto"),
        ("openai_chat", "look", (LOOK, WAIT), "look"),
    ],
)
def test_a_choice_that_the_format_does_not_know_is_said_by_another(to, choice, tools, expected):
    result = adapted(to, tools=(LOOK, WAIT), tool_choice=choice)
    assert (result.request.tools, result.request.tool_choice) == (tools, expected)
    assert bool(result.losses) == (to != "openai_chat")


def test_a_required_call_of_the_only_tool_is_a_named_one():
    result = adapted("dashscope", tools=(LOOK,), tool_choice="required")
    assert result.request.tool_choice == "look"
    assert lost(result) == [("tool_choice", "emulated")]


def test_a_choice_of_a_tool_that_is_not_there_is_refused():
    with pytest.raises(InvalidRequest, match=r"tool_choice: expected one of .*found 'jump'"):
        adapted("openai_chat", tools=(LOOK,), tool_choice="jump")


def test_parallel_calls_that_cannot_be_forbidden_are_told_and_allowed_ones_are_no_loss():
    assert lost(adapted("gemini", tools=(LOOK,), parallel_tool_calls=False)) == [("parallel_tool_calls", "dropped")]
    assert adapted("gemini", tools=(LOOK,), parallel_tool_calls=True).losses == ()


def test_a_schema_becomes_an_instruction_where_the_format_has_none():
    result = adapted("hunyuan", response_format=SCHEMA, messages=(system("S"), user("Hi")))
    assert result.request.response_format is None
    first = result.request.messages[0]
    assert first.role == "system"
    assert first.text.startswith("S\n\nAnswer with one JSON value that is valid under this JSON schema")
    assert '{"type":"object"}' in first.text
    assert lost(result) == [("response_format", "emulated")]


def test_any_object_becomes_a_schema_where_the_format_knows_schemas_only():
    result = adapted("anthropic_messages", response_format={"type": "json_object"})
    assert result.request.response_format["json_schema"]["schema"] == {"type": "object"}
    assert lost(result) == [("response_format", "emulated")]


@pytest.mark.parametrize(
    ("to", "given", "expected", "losses"),
    [
        ("openai_chat", ReasoningOptions("low"), ReasoningOptions("low"), []),
        ("openai_chat", ReasoningOptions(budget=1024), ReasoningOptions("low"), [("reasoning.budget", "clamped")]),
        ("qianfan", ReasoningOptions("low"), ReasoningOptions(budget=1024), [("reasoning.effort", "emulated")]),
        ("qianfan", ReasoningOptions("none"), ReasoningOptions("none"), []),
        ("hunyuan", ReasoningOptions("high"), ReasoningOptions("medium"), [("reasoning.effort", "clamped")]),
        ("meta", ReasoningOptions("high"), None, [("reasoning", "dropped")]),
        ("vllm", ReasoningOptions("low", None, "auto"), ReasoningOptions("low"), [("reasoning.summary", "dropped")]),
    ],
)
def test_how_much_to_think_is_said_as_the_format_says_it(to, given, expected, losses):
    result = adapted(to, reasoning=given)
    assert (result.request.reasoning, lost(result)) == (expected, losses)


def test_a_budget_is_at_least_what_its_effort_stands_for():
    assert [effort_of(budget_of(effort)) for effort in ("none", "low", "max")] == ["none", "low", "max"]
    assert effort_of(10**9) == "max"


# ---- everything --------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["", "a", "Hé"])
PARTS = st.builds(Text, TEXTS) | st.builds(Image, data=st.just(b"x"), detail=st.sampled_from(["auto", "low"]))
MESSAGES = st.lists(
    st.builds(system, TEXTS)
    | st.builds(user, TEXTS)
    | st.builds(assistant, TEXTS)
    | st.builds(Message, st.just("user"), st.tuples(PARTS, PARTS)),
    min_size=1,
    max_size=6,
).map(tuple)
NUMBERS = st.none() | st.floats(-3, 3)
SAMPLINGS = st.builds(
    Sampling,
    temperature=NUMBERS,
    top_p=NUMBERS,
    top_k=st.none() | st.integers(-5, 99999),
    min_p=NUMBERS,
    max_tokens=st.none() | st.integers(0, 99),
    stop=st.lists(st.text(min_size=1, max_size=30), max_size=7).map(tuple),
    seed=st.none() | st.integers(-(2**40), 2**40),
    presence_penalty=NUMBERS,
    frequency_penalty=NUMBERS,
    repetition_penalty=NUMBERS,
    logit_bias=st.dictionaries(st.integers(0, 9), st.floats(-200, 200), max_size=2),
    logprobs=st.none() | st.integers(0, 30),
)


def within(value, limit: Limit):
    low = limit.low is None or value > limit.low or (value == limit.low and not limit.low_open)
    high = limit.high is None or value < limit.high or (value == limit.high and not limit.high_open)
    return (low and high) or value == limit.omit_at


@settings(deadline=None)
@given(st.sampled_from(sorted(MATRIX)), MESSAGES, SAMPLINGS)
def test_what_was_adapted_once_fits_and_loses_nothing_more(to, messages, sampling):
    row = MATRIX[to]
    if not row.images:
        messages = tuple(msgspec.structs.replace(one, parts=(Text(one.text),)) for one in messages)
    first = adapt(InferenceRequest(messages, sampling=sampling), row)
    again = adapt(first.request, row)
    unsayable = {("messages", "dropped")}  # a partial answer stays one
    assert {(loss.parameter, loss.action) for loss in again.losses} <= unsayable
    assert again.request == first.request
    for name, limit in row.parameters.items():
        value = getattr(first.request.sampling, name)
        if isinstance(value, int | float):
            assert within(value, limit), name
