"""Tool calls of vendors that give them no ids, or want their arguments as an object instead of text.

Ids are invented from a call's position in the conversation and its name, so that the same conversation always gets the
same ones; a result without an id belongs to the first call of its name that has none yet.
"""

from collections import deque
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
    position: int


class CallBook:
    """Follows a conversation: which calls were made, and which one a result answers; each in constant time."""

    def __init__(self) -> None:
        self.count = 0
        """How many calls were made."""
        self._by_id: dict[str, _Call] = {}
        self._waiting: dict[str, deque[_Call]] = {"": deque()}  # by name, and of any
        self._answered: set[int] = set()

    def called(self, name: str, id: str | None) -> _Call:
        """Note a call; it gets an id if it has none."""
        own = invented_id(self.count, name)
        call = _Call(id or own, name, not id or id == own, self.count)
        self.count += 1
        self._by_id[call.id] = call
        for key in {"", name}:
            self._waiting.setdefault(key, deque()).append(call)
        return call

    def expected(self, name: str) -> _Call | None:
        """Return the call that a result of the tool ``name`` (empty: of any) without an id would answer."""
        waiting = self._waiting.get(name)
        while waiting and waiting[0].position in self._answered:
            waiting.popleft()
        return waiting[0] if waiting else None

    def answered(self, name: str, id: str | None) -> tuple[str, str]:
        """Note a result; return id and name of the call that it answers."""
        call = self._by_id.get(id) if id else self.expected(name)
        if call is None:
            return id or invented_id(self.count, name), name
        self._answered.add(call.position)
        return call.id, name or call.name
