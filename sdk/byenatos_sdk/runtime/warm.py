"""The kernel's calls for warm state, handed to a driver that has it: what they mean stands in ``protocol.warm``."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.frames import Resume
from byenatos_sdk.protocol.warm import (
    Export,
    Fingerprint,
    Holding,
    Piece,
    Placed,
    Prefill,
    Reach,
    Reached,
    Read,
    Restore,
    Subject,
)
from byenatos_sdk.runtime.plugin import checked
from byenatos_sdk.runtime.request import complete
from byenatos_sdk.runtime.stream import Stream
from byenatos_sdk.warm import Arena, Resumption, State, WarmState

__all__ = ["WarmCalls"]

_T = TypeVar("_T", bound=msgspec.Struct)
_encode = msgspec.msgpack.Encoder().encode
_NOTHING = b""


class WarmCalls:
    """Carries out calls; each of :attr:`methods` is a method of the driver with the arena's memory filled in."""

    def __init__(self, driver: WarmState, arena: Arena, order: LoadOrder, *, continues: bool) -> None:
        self._driver = driver
        self._arena = arena
        self._order = order
        self._continues = continues
        self.methods: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "fingerprint": self._fingerprint,
            "holdings": self._holdings,
            "reach": self._reach,
            "export": self._export,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "restore": self._restore,
            "release": self._release,
            "prefill": self._prefill,
            "read": self._read_request,
        }

    async def call(self, method: str, body: bytes) -> bytes:
        """Call one of :attr:`methods` and return the reply's body."""
        return await self.methods[method](body)

    def resume(self, stream: Stream, header: Resume) -> None:
        """Have the driver go on with an answer."""
        states = tuple(self._states(header.pieces))
        self._driver.resume(stream, Resumption(header.said, header.progress, states))

    async def _fingerprint(self, _: bytes) -> bytes:
        return self._checked(await self._driver.fingerprint(), Fingerprint, "fingerprint")

    async def _holdings(self, _: bytes) -> bytes:
        holdings = await self._driver.holdings()
        for holding in holdings:
            self._checked(holding, Holding, "holdings")
        return _encode(holdings)

    async def _reach(self, body: bytes) -> bytes:
        order = _read(body, Reach)
        return self._checked(Reached(await self._driver.reach(order.subject, order.position)), Reached, "reach")

    async def _export(self, body: bytes) -> bytes:
        order = _read(body, Export)
        into = self._arena.view(order.offset, order.limit)
        return self._checked(await self._driver.export(order.subject, order.start, into), Piece, "export")

    async def _freeze(self, body: bytes) -> bytes:
        order = _read(body, Export)
        if not isinstance(order.subject, int):
            raise InvalidRequest(f"expected the number of a running answer, found {order.subject!r}")
        into = self._arena.view(order.offset, order.limit)
        return self._checked(await self._driver.freeze(order.subject, order.start, into), Piece, "freeze")

    async def _thaw(self, body: bytes) -> bytes:
        subject = _read(body, Subject).subject
        if not isinstance(subject, int):
            raise InvalidRequest(f"expected the number of a running answer, found {subject!r}")
        await self._driver.thaw(subject)
        return _NOTHING

    async def _restore(self, body: bytes) -> bytes:
        order = _read(body, Restore)
        await self._driver.restore(order.subject, tuple(self._states(order.pieces)))
        return _NOTHING

    async def _release(self, body: bytes) -> bytes:
        await self._driver.release(_read(body, Subject).subject)
        return _NOTHING

    async def _prefill(self, body: bytes) -> bytes:
        order = _read(body, Prefill)
        return self._checked(Reached(await self._driver.prefill(order.session, order.messages)), Reached, "prefill")

    async def _read_request(self, body: bytes) -> bytes:
        order = _read(body, Read)
        request = complete(order.request, order.partial, self._order, continues=self._continues)
        return self._checked(Reached(await self._driver.read(request)), Reached, "read")

    def _states(self, pieces: Iterable[Placed]) -> Iterable[State]:
        for piece in pieces:
            yield State(piece.start, piece.stop, self._arena.view(piece.offset, piece.size))

    def _checked(self, value: Any, kind: type[msgspec.Struct], method: str) -> bytes:
        return checked(value, kind, f"{type(self._driver).__name__}.{method}")


def _read(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except ValueError as error:
        raise InvalidRequest(f"expected the parameters of a call: {error}") from None
