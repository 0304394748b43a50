"""What messages are made of: a turn of a conversation is a message by one role, in parts."""

from typing import Literal, TypeAlias

from byenatos_sdk.protocol.messages.value import Value

__all__ = [
    "Audio",
    "File",
    "Image",
    "Message",
    "Part",
    "Reasoning",
    "Role",
    "Text",
    "ToolCall",
    "ToolResult",
    "assistant",
    "system",
    "user",
]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Text(Value, frozen=True, tag="text"):
    """Plain text, UTF-8."""

    text: str


class Image(Value, frozen=True, tag="image"):
    """A picture: ``data`` (encoded bytes of ``media_type``), a ``url``, or the ``file_id`` that a vendor gave it."""

    media_type: str = "image/png"
    data: bytes | None = None
    url: str | None = None
    detail: Literal["auto", "low", "high", "original"] = "auto"
    file_id: str | None = None


class Audio(Value, frozen=True, tag="audio"):
    """Sound, encoded as ``media_type``."""

    data: bytes
    media_type: str = "audio/wav"


class File(Value, frozen=True, tag="file"):
    """A document: ``data`` (bytes of ``media_type``), a ``url``, or the ``file_id`` that a vendor gave it."""

    name: str = ""
    media_type: str = "application/octet-stream"
    data: bytes | None = None
    url: str | None = None
    file_id: str | None = None


class ToolCall(Value, frozen=True, tag="tool_call"):
    """A call that the model asks for; ``arguments`` is a JSON object as text.

    ``signature`` is opaque and the vendor's own; it goes back unchanged with the call, to that vendor only.
    """

    id: str
    name: str
    arguments: str = "{}"
    signature: str | None = None


class ToolResult(Value, frozen=True, tag="tool_result"):
    """What a tool answered to the call ``call_id``; ``name`` is the tool's, empty where the caller did not say."""

    call_id: str
    text: str
    is_error: bool = False
    name: str = ""
    images: tuple[Image, ...] = ()


class Reasoning(Value, frozen=True, tag="reasoning"):
    """A model's reasoning with the vendor's opaque signature, to be handed back unchanged.

    ``source`` names the API format whose signature it is: no other understands it. ``redacted``: the vendor keeps the
    text to itself and ``signature`` stands for it.
    """

    text: str
    signature: str | None = None
    source: str = ""
    redacted: bool = False


Part: TypeAlias = Text | Image | Audio | File | ToolCall | ToolResult | Reasoning


class Message(Value, frozen=True):
    """One turn's worth of parts by one role."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def system(text: str) -> Message:
    """Build a system message of one text part."""
    return Message("system", (Text(text),))


def user(text: str) -> Message:
    """Build a user message of one text part."""
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    """Build an assistant message of one text part."""
    return Message("assistant", (Text(text),))
