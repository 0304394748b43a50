"""A conversation as chat templates see it: turns, one side's words until the other side speaks."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import File, Message, Part, Reasoning, Text, ToolCall, ToolResult

__all__ = ["Turn", "fold_system", "read_turns", "spell_calls"]


class Turn(NamedTuple):
    """One side's text, and the tools that it calls; or, of the role ``tool``, what the call ``call_id`` gave."""

    role: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""

    def for_template(self) -> dict[str, Any]:
        """Return the message as templates expect it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
                for call in self.calls
            ]
        if self.role == "tool":
            message |= {"tool_call_id": self.call_id, "name": self.name}
        return message


def read_turns(messages: Sequence[Message]) -> list[Turn]:
    """Return the turns of ``messages``, neighbours of the same role merged with a blank line between them.

    Reasoning is left out, as templates do with that of earlier turns; a document that is text is read where it stands.

    Raises:
        InvalidRequest: a message holds something that this driver cannot read.
    """
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for number, message in enumerate(messages, start=1):
        calls = tuple(part for part in message.parts if isinstance(part, ToolCall))
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        said = "".join(_said(part, number) for part in message.parts)
        if calls and message.role != "assistant":
            raise InvalidRequest(f"message {number}: expected tool calls of the assistant, found the {message.role}'s")
        names |= {call.id: call.name for call in calls}
        turns += [Turn("tool", one.text, call_id=one.call_id, name=names.get(one.call_id, "")) for one in results]
        if said or calls or not results:
            _append(turns, Turn(message.role, said, calls))
    return turns


def _said(part: Part, number: int) -> str:
    """Return the text that a part of message ``number`` is, empty for calls, results and thoughts."""
    if isinstance(part, Text):
        return part.text
    if isinstance(part, File) and part.data is not None and part.media_type.startswith("text/"):
        named = f"{part.name}:\n" if part.name else ""
        return f"{named}{part.data.decode(errors='replace')}\n\n"
    if not isinstance(part, Reasoning | ToolCall | ToolResult):
        kind = type(part).__name__
        raise InvalidRequest(f"message {number}: the llamacpp driver reads text and tool calls, found {kind}")
    return ""


def _append(turns: list[Turn], turn: Turn) -> None:
    if turns and turns[-1].role == turn.role and turn.role != "tool" and not turns[-1].calls:
        content = "\n\n".join(text for text in (turns.pop().content, turn.content) if text)
        turn = turn._replace(content=content)
    turns.append(turn)


def spell_calls(turns: Sequence[Turn]) -> list[Turn]:
    """Write calls and their results into the text, for templates that know neither."""
    spelled: list[Turn] = []
    for turn in turns:
        texts = [turn.content] if turn.content and turn.role != "tool" else []
        for call in turn.calls:
            body = json.dumps({"name": call.name, "arguments": _arguments(call)}, ensure_ascii=False)
            texts.append(f"<tool_call>\n{body}\n</tool_call>")
        if turn.role == "tool":
            texts.append(f"<tool_response>\n{turn.content}\n</tool_response>")
        role = "user" if turn.role == "tool" else turn.role
        _append(spelled, Turn(role, "\n".join(texts)))
    return spelled


def fold_system(turns: Sequence[Turn]) -> list[Turn]:
    """Move each system turn into the user's turn after it, or before it if there is none."""
    folded: list[Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user":
            waiting.append(turn.content)
            folded.append(Turn("user", "\n\n".join(waiting)))
            waiting = []
        else:
            folded.append(turn)
    if waiting:
        last = folded.pop().content if folded and folded[-1].role == "user" else ""
        folded.append(Turn("user", "\n\n".join(text for text in (last, *waiting) if text)))
    return folded


def _arguments(call: ToolCall) -> Any:
    """Return the arguments as an object: most templates write them as JSON themselves."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
