"""What is stored of an answer."""

from byenatos_kernel.turns import _joined
from byenatos_sdk.protocol.messages import Reasoning, ToolCall


def test_a_thought_that_came_in_pieces_is_one_part_with_the_vendors_signature():
    call = ToolCall("1", "look", "{}", "signed too")
    hidden = Reasoning("", "opaque", "anthropic_messages", redacted=True)
    pieces = [Reasoning("Let me "), Reasoning("think"), Reasoning("", "signed", "gemini"), hidden, call]
    pieces += [Reasoning("And "), Reasoning("then")]
    assert _joined(pieces) == [
        Reasoning("Let me think", "signed", "gemini"),
        hidden,
        call,
        Reasoning("And then"),
    ]
    assert _joined([]) == []
    assert _joined([Reasoning("a"), call]) == [Reasoning("a"), call]
