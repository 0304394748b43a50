"""Tool calls of vendors that give them no ids, or want their arguments as an object instead of text.

Ids are invented from a call's position in the conversation and its name, so that the same conversation always gets the
same ones; a result without an id belongs to the first call of its name that has none yet.
"""

from typing import NamedTuple

import msgspec

from byenatos_sdk.formats.fragments import invented_id

__all__ = ["CallBook", "arguments_object", "arguments_text", "invented_id"]

RAW_ARGUMENTS = "raw_arguments"
"""The only key of an object that stands for arguments which are no JSON object: a model's broken text survives."""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WRAPPED = msgspec.json.Decoder(dict[str, str])


def arguments_text(value: bytes) -> str:
    """Return a call's arguments, a JSON object as it was written, as text in one line."""
    text = msgspec.json.format(value, indent=-1)
    if RAW_ARGUMENTS.encode() in text[:32]:
        try:
            wrapped = _WRAPPED.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            wrapped = {}
        if len(wrapped) == 1 and RAW_ARGUMENTS in wrapped:
            return wrapped[RAW_ARGUMENTS]
    return text.decode("utf-8", "replace")


def arguments_object(text: str) -> msgspec.Raw:
    """Return a call's arguments as one line of JSON that is surely an object, numbers as they were written."""
    if not text.strip():
        return msgspec.Raw(b"{}")
    try:
        _OBJECT.decode(text)
        return msgspec.Raw(msgspec.json.format(text.encode(), indent=-1))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode({RAW_ARGUMENTS: text}))


class _Call(NamedTuple):
    id: str
    name: str
    invented: bool


class CallBook:
    """Follows a conversation: which calls were made, and which one a result answers."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._waiting: list[_Call] = []

    @property
    def count(self) -> int:
        """How many calls were made."""
        return len(self._calls)

    def called(self, name: str, id: str | None) -> _Call:
        """Note a call; it gets an id if it has none."""
        own = invented_id(len(self._calls), name)
        call = _Call(id or own, name, not id or id == own)
        self._calls.append(call)
        self._waiting.append(call)
        return call

    def expected(self, name: str) -> _Call | None:
        """Return the call that a result of the tool ``name`` (empty: of any) without an id would answer."""
        return next((call for call in self._waiting if not name or call.name == name), None)

    def answered(self, name: str, id: str | None) -> tuple[str, str]:
        """Note a result; return id and name of the call that it answers."""
        call = self._named(id) if id else self.expected(name)
        if call is None:
            return id or invented_id(len(self._calls), name), name
        if call in self._waiting:
            self._waiting.remove(call)
        return call.id, name or call.name

    def _named(self, id: str) -> _Call | None:
        return next((call for call in reversed(self._calls) if call.id == id), None)
