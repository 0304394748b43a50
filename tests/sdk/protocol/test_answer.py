import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.answer import Answer
from byenatos_sdk.protocol.errors import ByenatosError, RateLimited, error_codes, error_from_code
from byenatos_sdk.protocol.frames import Reply
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    Logprobs,
    Message,
    Moved,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)


def added(*deltas):
    answer = Answer()
    for delta in deltas:
        assert answer.add(delta) is delta
    return answer


def test_an_answer_keeps_its_parts_in_the_order_in_which_they_came():
    answer = added(
        ReasoningDelta("hm"),
        ReasoningDelta("m", "signed"),
        ReasoningDelta("then"),
        TextDelta("Let me "),
        Moved("a", "b", "swap"),
        TextDelta("look."),
        Logprobs((TokenLogprob("look", -0.5),)),
        ToolCallDelta("1", "look", "{}"),
        TextDelta("Done."),
        Finish("tool_calls", Usage(1, 2), "b"),
    )
    response = answer.response()
    assert response.message == Message(
        "assistant",
        (
            Reasoning("hmm", "signed"),
            Reasoning("then"),
            Text("Let me look."),
            ToolCall("1", "look", "{}"),
            Text("Done."),
        ),
    )
    assert (response.reason, response.usage, response.model) == ("tool_calls", Usage(1, 2), "b")
    assert response.moves == (Moved("a", "b", "swap"),)
    assert answer.text == response.text == "Let me look.Done."


@settings(deadline=None)
@given(st.lists(st.builds(TextDelta, st.text()) | st.builds(ReasoningDelta, st.text()), max_size=20))
def test_no_text_is_lost_wherever_it_is_cut(deltas):
    answer = added(*deltas, Finish())
    expected = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert answer.text == expected
    assert answer.response().text == expected
    reasoning = [part.text for part in answer.response().message.parts if isinstance(part, Reasoning)]
    assert "".join(reasoning) == "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))


@pytest.mark.parametrize("code", error_codes())
def test_a_failure_is_raised_as_the_error_of_its_code(code):
    with pytest.raises(ByenatosError, match="sorry") as caught:
        Answer().add(Failure(code, "sorry", 1.5, True))
    assert type(caught.value) is type(error_from_code(code, ""))
    assert (caught.value.code, caught.value.retry_after_s, caught.value.partial) == (code, 1.5, True)


def test_an_unknown_code_is_raised_as_internal_and_named():
    with pytest.raises(ByenatosError, match="too_sunny") as caught:
        Answer().add(Failure("too_sunny", "sorry"))
    assert type(caught.value) is ByenatosError
    assert not isinstance(caught.value, RateLimited)


def test_an_unfinished_answer_has_no_response():
    with pytest.raises(ByenatosError, match="read it first"):
        added(TextDelta("half")).response()


def test_an_event_of_a_call_is_no_delta():
    with pytest.raises(ByenatosError, match="expected a delta of a stream, found Reply"):
        Answer().add(Reply(b""))
