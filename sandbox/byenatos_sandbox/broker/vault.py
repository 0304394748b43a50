"""Keys as the server holds them: asked of the keeper, kept for a second, so that a rotated one is used at once.

The server has no other way to a key, and the keeper no other to the network.
"""

import asyncio
import socket
import time

import msgspec
from msgspec import Struct

from byenatos_sandbox.broker.redact import Redactor
from byenatos_sandbox.broker.refusal import Refused

__all__ = ["Found", "Missing", "Vault", "decode_answer"]

FRESH_S = 1.0
ANSWER_S = 40.0
_PAST_KEYS = 3
MAX_ANSWER = 32 << 10


class Found(Struct, frozen=True, tag=True):
    """The key."""

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"Found({self.name!r}, ...)"


class Missing(Struct, frozen=True, tag=True):
    """There is none that can be used, for ``reason``."""

    name: str
    reason: str


decode_answer = msgspec.msgpack.Decoder(Found | Missing).decode


class Vault:
    """Asks for keys by name; one question about each at a time. Use it from the event loop's thread."""

    def __init__(self, keeper: socket.socket) -> None:
        keeper.setblocking(False)
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[float, bytes]] = {}
        self._seen: dict[str, list[bytes]] = {}
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._redactors: dict[tuple[str, ...], Redactor] = {}
        self._loop.add_reader(keeper, self._heard)

    def __repr__(self) -> str:
        return f"Vault({sorted(self._known)})"

    async def key(self, name: str) -> bytes:
        """Return the key called ``name``.

        Raises:
            Refused: there is none; the reason says what the operator can do.
        """
        at, value = self._known.get(name, (0.0, b""))
        if value and time.monotonic() - at < FRESH_S:
            return value
        future = self._asked.get(name)
        if future is None:
            future = self._asked[name] = self._loop.create_future()
            future.add_done_callback(lambda done: done.exception())  # whoever asked may have left
            try:
                self._keeper.send(name.encode())
            except OSError:
                self._answer(name, Refused(503, f"key {name!r}: the broker's keeper is busy; try again"))
        try:
            return await asyncio.wait_for(asyncio.shield(future), ANSWER_S)
        except TimeoutError:
            raise Refused(504, f"key {name!r}: its source did not answer within {ANSWER_S:g} s") from None

    def redactor(self, names: tuple[str, ...]) -> Redactor:
        """Return what takes these keys, and what they were before a rotation, out of answers."""
        found = self._redactors.get(names)
        if found is None:
            parts = [part for name in names for value in self._seen.get(name, []) for part in (value, *_halves(value))]
            found = self._redactors[names] = Redactor(parts)
        return found

    def _heard(self) -> None:
        try:
            packet = self._keeper.recv(MAX_ANSWER)
        except BlockingIOError:
            return
        if not packet:  # the keeper is gone, and with it, in a moment, this process
            self._loop.remove_reader(self._keeper)
            return
        answer = decode_answer(packet)
        if isinstance(answer, Missing):
            self._known.pop(answer.name, None)
            self._answer(answer.name, Refused(503, f"key {answer.name!r}: {answer.reason}"))
            return
        self._known[answer.name] = (time.monotonic(), answer.value)
        seen = self._seen.setdefault(answer.name, [])
        if answer.value not in seen:
            seen.append(answer.value)
            del seen[:-_PAST_KEYS]
            self._redactors.clear()
        self._answer(answer.name, answer.value)

    def _answer(self, name: str, outcome: bytes | Refused) -> None:
        future = self._asked.pop(name, None)
        if future is None or future.done():
            return
        if isinstance(outcome, Refused):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _halves(value: bytes) -> list[bytes]:
    """``id:secret`` has two parts that can be echoed apart."""
    identity, colon, secret = value.partition(b":")
    return [identity, secret] if colon else []
