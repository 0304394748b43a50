"""Fit a conversation to a format: what a message may hold, where instructions may stand, who may speak after whom."""

from collections.abc import Callable, Iterable
from typing import NoReturn

from msgspec.structs import replace

from byenatos_sdk.formats.capabilities import Capabilities, Source
from byenatos_sdk.formats.wire import Action
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    user,
)

__all__ = ["ERROR_MARK", "SYSTEM_MARK", "fit_conversation", "instructed"]

SYSTEM_MARK = "[system] "
"""Before an instruction that had to move into the user's turn."""
ERROR_MARK = "Error: "
"""Before the text of a tool's error, where results cannot be marked."""

Lose = Callable[[str, Action, str], None]


def fit_conversation(messages: tuple[Message, ...], to: Capabilities, lose: Lose) -> tuple[Message, ...]:
    """Return ``messages`` as ``to`` can say them; ``lose`` hears every loss.

    Raises:
        InvalidRequest: there are none.
        Unsupported: something that the user sent can neither be said nor left out.
    """
    if not messages:
        raise InvalidRequest("messages: expected at least one, found none")
    fitting = _Conversation(to, lose)
    messages = tuple(replace(message, parts=tuple(fitting.parts(message))) for message in messages)
    messages = fitting.system(messages)
    if to.alternate:
        messages = fitting.merged(messages)
    if to.user_needed and not any(message.role == "user" for message in messages):
        messages = fitting.with_user(messages)
    if not to.prefill and messages[-1].role == "assistant":
        lose("messages", "dropped", f"{to.format} answers a partial answer instead of continuing it")
    return messages


def instructed(messages: tuple[Message, ...], instruction: str, to: Capabilities) -> tuple[Message, ...]:
    """Put ``instruction`` behind the other instructions that stand before the conversation."""
    leading = _leading(messages)
    if to.system == "first" and leading:
        return (Message("system", (Text(f"{messages[0].text}\n\n{instruction}"),)), *messages[leading:])
    return (*messages[:leading], Message("system", (Text(instruction),)), *messages[leading:])


def _leading(messages: tuple[Message, ...]) -> int:
    """Return how many system messages stand before the conversation."""
    return next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))


class _Conversation:
    def __init__(self, to: Capabilities, lose: Lose) -> None:
        self.to = to
        self.lose = lose

    def parts(self, message: Message) -> Iterable[Part]:
        to = self.to
        for part in message.parts:
            if isinstance(part, Image):
                yield self._image(part)
            elif isinstance(part, Audio) and not to.audio:
                self._refuse("sound")
            elif isinstance(part, File):
                self._check_source(part, to.files, "file")
                yield part
            elif isinstance(part, ToolResult):
                yield self._result(part)
            elif isinstance(part, Reasoning):
                kept = self._thought(part)
                if kept is not None:
                    yield kept
            elif isinstance(part, ToolCall) and part.signature is not None and not to.signatures:
                yield replace(part, signature=None)
            else:
                yield part

    def _refuse(self, what: str) -> NoReturn:
        """Content that the user sent cannot be left out without changing what is asked: always an error.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(f"messages: {self.to.format} takes no {what}; leave it out, or swap to a model that takes it")

    def _image(self, image: Image) -> Image:
        self._check_source(image, self.to.images, "image")
        if image.detail != "auto" and not self.to.image_detail:
            self.lose("image.detail", "dropped", f"{self.to.format} has no detail of images")
            return replace(image, detail="auto")
        return image

    def _check_source(self, part: Image | File, allowed: frozenset[Source], what: str) -> None:
        if part.data is not None:
            found: Source = "data"
        elif part.url is not None:
            found = "url"
        else:
            found = "file_id"
        if found not in allowed:
            self._refuse(f"{what}s by {found}" if allowed else f"{what}s")

    def _result(self, result: ToolResult) -> ToolResult:
        to = self.to
        if result.images and not to.tool_images:
            self.lose("tool_result.images", "dropped", f"{to.format} takes text from tools only")
            result = replace(result, images=())
        if result.is_error and not to.tool_errors:
            self.lose("tool_result.is_error", "emulated", f"{to.format} cannot mark errors: the text says it")
            result = replace(result, text=ERROR_MARK + result.text, is_error=False)
        return result

    def _thought(self, part: Reasoning) -> Reasoning | None:
        """Return what goes back of an earlier turn's reasoning: only the vendor that signed it knows the signature."""
        to = self.to
        own = part.signature is not None and to.signatures and part.source in {"", to.format}
        if own or (part.signature is None and to.reasoning_history):
            return part
        if to.reasoning_history and part.text:
            self.lose("reasoning.signature", "dropped", f"{to.format} did not sign it")
            return Reasoning(part.text)
        whose = "others" if to.signatures else "earlier turns"
        self.lose("reasoning", "dropped", f"{to.format} takes no reasoning of {whose}")
        return None

    def system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        place = self.to.system
        if place == "anywhere":
            return messages
        leading = _leading(messages)
        head = messages[:leading]
        if place == "first" and len(head) > 1:
            self.lose("messages", "merged", f"{self.to.format} takes one system message")
            text = "\n\n".join(message.text for message in head)
            head = (Message("system", (Text(text),)),)
        return head + self._moved_system(messages[leading:])

    def _moved_system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Move later instructions to the front of the user's next turn; the last ones become a turn."""
        if not any(message.role == "system" for message in messages):
            return messages
        self.lose("messages", "moved", f"{self.to.format} takes instructions before the conversation only")
        moved: list[Message] = []
        waiting: list[Part] = []
        for message in messages:
            if message.role == "system":
                waiting.append(Text(SYSTEM_MARK + message.text))
            elif message.role == "user" and waiting:
                moved.append(Message("user", (*waiting, *message.parts)))
                waiting = []
            else:
                moved.append(message)
        if waiting:
            moved.append(Message("user", tuple(waiting)))
        return tuple(moved)

    def merged(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        merged: list[Message] = []
        for message in messages:
            if merged and merged[-1].role == message.role and message.role in {"user", "assistant"}:
                self.lose("messages", "merged", f"{self.to.format} wants user and assistant to take turns")
                merged[-1] = Message(message.role, _joined(merged[-1].parts, message.parts))
            else:
                merged.append(message)
        return tuple(merged)

    def with_user(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Turn the last instruction into the user's turn: there must be one."""
        self.lose("messages", "moved", f"{self.to.format} wants a message of the user")
        for at in range(len(messages) - 1, -1, -1):
            if messages[at].role == "system":
                return (*messages[:at], Message("user", messages[at].parts), *messages[at + 1 :])
        return (user("…"), *messages)


def _joined(first: tuple[Part, ...], second: tuple[Part, ...]) -> tuple[Part, ...]:
    """Put one message's parts behind another's, with a blank line where text meets text."""
    if first and second and isinstance(first[-1], Text) and isinstance(second[0], Text):
        return (*first[:-1], Text(f"{first[-1].text}\n\n{second[0].text}"), *second[1:])
    return first + second
