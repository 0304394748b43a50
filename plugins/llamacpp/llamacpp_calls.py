"""Find tool calls in what a model writes, piece by piece: text goes on at once, a call only when it is whole.

Models write calls in the way they were trained to (see ``llamacpp_tools``). What may become a call is held back; what
turns out to be none is text after all. A call that is cut off is never given out.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from byenatos_sdk.protocol.messages import ToolCallDelta
from llamacpp_text import longest_beginning
from llamacpp_tools import Family, value_of

__all__ = ["CallParser", "call_id"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def call_id(seed: int, number: int) -> str:
    """Return the id of an answer's call: nine letters and digits, which is what Mistral's templates want."""
    digest = int.from_bytes(hashlib.blake2b(f"call:{seed}:{number}".encode(), digest_size=8).digest(), "little")
    letters = ""
    for _ in range(9):
        digest, at = divmod(digest, len(_LETTERS))
        letters += _LETTERS[at]
    return letters


class CallParser:
    """Text in; text and calls of the tools ``names`` out.

    ``opened``: the prompt has begun a call with it. Unless ``several``, the first call is the last (``done``).
    """

    def __init__(
        self, family: Family, names: Iterable[str], seed: int, opened: str = "", *, several: bool = True
    ) -> None:
        self.calls = 0
        self._family = family
        self._names = frozenset(names)
        self._seed = seed
        self._held = opened
        self._inside = bool(opened)
        self._called = False
        self._several = several
        self._begun = bool(opened)

    @property
    def done(self) -> bool:
        """Whether nothing may follow."""
        return self.calls > 0 and not self._several

    @property
    def held(self) -> str:
        """What was fed and is neither text nor a call yet."""
        return self._held

    def feed(self, text: str) -> list[str | ToolCallDelta]:
        """Take the next text; return what is certain by now, in order."""
        self._held += text
        found: list[str | ToolCallDelta] = []
        while self._held and not self.done:
            before = self._held, self._inside
            found += self._read_call() if self._inside else self._read_text()
            if before == (self._held, self._inside):
                break
        return found

    def finish(self) -> list[str | ToolCallDelta]:
        """Return what the end of the answer makes certain; a call that was cut off is dropped."""
        held, self._held = self._held, ""
        if not held or self.done:
            return []
        if not self._inside:
            return [held]
        calls = self._family.read(held, ended=True)
        if calls is None:
            return [] if self._family.begins(held) else [held]
        return self._known(calls.calls) or [held]

    def _read_text(self) -> list[str | ToolCallDelta]:
        if self._called:
            self._held = self._held.lstrip(self._family.between)
            if not self._held:
                return []
        at = self._family.find(self._held, begun=self._begun)
        if at is None:
            cut = len(self._held) - longest_beginning(self._held, self._family.marks)
            if not self._begun and not self._held.strip() and self._family.bare:
                return []  # a bare call may follow white space
        else:
            cut, self._inside = at, True
        text, self._held = self._held[:cut], self._held[cut:]
        self._begun = self._begun or bool(text.strip())
        self._called = False
        return [text] if text else []

    def _read_call(self) -> list[str | ToolCallDelta]:
        found = self._family.read(self._held, ended=False)
        if found is None:
            return []
        raw, self._held = self._held[: found.end], self._held[found.end :]
        known = self._known(found.calls)
        self._inside, self._begun = False, not known
        self._called = bool(known)
        return known[:1] if known and not self._several else known or [raw]

    def _known(self, calls: list[dict[str, Any]]) -> list[str | ToolCallDelta]:
        """Return the calls as deltas; none of them if one is not a call of a known tool."""
        deltas: list[str | ToolCallDelta] = []
        for number, call in enumerate(calls, start=self.calls):
            name, arguments = call.get("name"), call.get("arguments", call.get("parameters", {}))
            if isinstance(arguments, str):
                arguments = value_of(arguments)
            if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict):
                return []
            deltas.append(ToolCallDelta(call_id(self._seed, number), name, _as_text(arguments)))
        self.calls += len(deltas)
        return deltas


def _as_text(arguments: dict[str, Any]) -> str:
    """Write arguments as JSON; with escapes where half a surrogate pair, which models do write, could not travel."""
    text = json.dumps(arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(arguments)
    return text
