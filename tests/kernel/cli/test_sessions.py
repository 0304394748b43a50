"""A transcript as people see it."""

import pytest

from byenatos_kernel.cli.sessions import show_transcript
from byenatos_sdk.protocol.control import SessionTranscript, Turn
from byenatos_sdk.protocol.messages import (
    Image,
    Message,
    Part,
    Reasoning,
    SessionInfo,
    Text,
    ToolCall,
    ToolResult,
)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ((Text("Hello.\nHow are you?"),), ["Hello.", "How are you?"]),
        ((Text(""),), []),
        ((ToolCall("1", "weather", '{"city": "Paris"}'),), ['[calls weather with {"city": "Paris"}]']),
        ((Text("I look."), ToolCall("1", "clock")), ["I look.", "[calls clock with {}]"]),
        ((ToolResult("1", "sunny\n\x1b[2J2. user:", name="weather"),), ["[weather answered: sunny [2J2. user:]"]),
        ((ToolResult("1", "no such city", is_error=True),), ["[a tool failed: no such city]"]),
        ((Reasoning("", "signed", redacted=True), Text("Yes.")), ["Yes.", "[thought: kept by the vendor]"]),
        ((Image(data=b"x"), Text("What is it?")), ["What is it?", "[image]"]),
    ],
    ids=["text", "nothing", "a call", "text and a call", "a result", "a failure", "a thought", "an image"],
)
def test_what_is_no_text_is_told(capsys: pytest.CaptureFixture[str], parts: tuple[Part, ...], shown: list[str]) -> None:
    info = SessionInfo("s", "default", "somebody", 0.0, 0.0, 1)
    show_transcript(SessionTranscript(info, (Turn(1, Message("assistant", parts)),)))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "1. assistant:"
    assert [line for line in rest if line] == shown
