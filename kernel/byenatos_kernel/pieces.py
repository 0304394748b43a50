"""Pieces of warm state in the kernel's hands: each sealed when it is taken over, each looked at before it is handed on.

A driver's engine takes nearly anything for a state (llama.cpp accepted 272 of 400 mutated ones), and a piece that means
something else ends in rubbish, or in a hole of a parser in C++. So a piece carries the layout that it was made for,
whose it is and its range, and a keyed BLAKE2b over all of that and its bytes, by a key that only this kernel has and
that ends with it. What does not match is refused.
"""

import hashlib
import hmac
import os
import struct

from msgspec import Struct

from byenatos_sdk.protocol.errors import InvalidRequest, Overloaded

__all__ = ["Budget", "Record", "SealedPiece", "Seals"]

_RANGE = struct.Struct("<QQ")
_LENGTH = struct.Struct("<Q")
MAC_BYTES = 32


class SealedPiece(Struct, frozen=True):
    """The state of positions ``start`` to ``stop`` of ``owner``, in the ``layout`` that instances must share."""

    layout: str
    owner: str
    start: int
    stop: int
    data: bytes
    progress: bytes
    mac: bytes


class Seals:
    """Makes and checks seals. ``key`` is 32 random bytes."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or os.urandom(32)

    def seal(self, layout: str, owner: str, start: int, stop: int, data: bytes, progress: bytes) -> SealedPiece:
        """Seal what was taken over."""
        return SealedPiece(
            layout, owner, start, stop, data, progress, self._mac(layout, owner, start, stop, data, progress)
        )

    def check(self, piece: SealedPiece, layout: str, owner: str) -> None:
        """Make sure that a piece is what was sealed, and is for an instance of ``layout``.

        Raises:
            InvalidRequest: it is not.
        """
        if piece.layout != layout:
            raise InvalidRequest("a piece of warm state was made for another model, engine or cache: it is refused")
        if piece.owner != owner:
            raise InvalidRequest("a piece of warm state belongs to somebody else: it is refused")
        found = self._mac(piece.layout, piece.owner, piece.start, piece.stop, piece.data, piece.progress)
        if not hmac.compare_digest(found, piece.mac):
            raise InvalidRequest("a piece of warm state is not what was sealed: it is refused")

    def _mac(self, layout: str, owner: str, start: int, stop: int, data: bytes, progress: bytes) -> bytes:
        mac = hashlib.blake2b(key=self._key, digest_size=MAC_BYTES)
        for text in (layout.encode(), owner.encode(), progress):
            mac.update(_LENGTH.pack(len(text)) + text)
        mac.update(_RANGE.pack(start, stop))
        mac.update(data)
        return mac.digest()


class Budget:
    """How many bytes of warm state the kernel may hold; a driver that exports without end fills it and no more."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> None:
        """Count ``size`` bytes more.

        Raises:
            Overloaded: that is more than may be.
        """
        if self.used + size > self.most:
            raise Overloaded(f"{self.used >> 20} MiB of warm state are held, of {self.most >> 20} MiB that may be")
        self.used += size

    def give_back(self, size: int) -> None:
        """They are held no more."""
        self.used -= size


class Record:
    """What the kernel has of one subject's state: pieces from position 0 on, one behind the other.

    Short pieces at the end (from ``loose`` on) are to be replaced by a longer one: many small ones take long to read.
    """

    def __init__(self, owner: str, layout: str, budget: Budget) -> None:
        self.owner = owner
        self.layout = layout
        self.pieces: list[SealedPiece] = []
        self.loose = 0
        self._budget = budget

    @property
    def stop(self) -> int:
        """Where the state ends."""
        return self.pieces[-1].stop if self.pieces else 0

    @property
    def loose_start(self) -> int:
        """Where the short pieces begin."""
        return self.pieces[self.loose].start if self.loose < len(self.pieces) else self.stop

    def add(self, piece: SealedPiece) -> None:
        """Put a piece behind what is there.

        Raises:
            InvalidRequest: it does not follow.
            Overloaded: the budget is used up.
        """
        if piece.start != self.stop or piece.stop <= piece.start:
            raise InvalidRequest(f"expected a piece from {self.stop} on, found one from {piece.start} to {piece.stop}")
        self._budget.take(len(piece.data))
        self.pieces.append(piece)

    def replace_loose(self, longer: list[SealedPiece]) -> None:
        """Put ``longer`` pieces in the place of the short ones at the end.

        Raises:
            InvalidRequest: they do not follow what is kept.
            Overloaded: the budget is used up.
        """
        before, dropped = self.pieces, self.pieces[self.loose :]
        self.pieces = before[: self.loose]
        try:
            for piece in longer:
                self.add(piece)
        except Exception:
            self._budget.give_back(sum(len(piece.data) for piece in self.pieces[self.loose :]))
            self.pieces = before
            raise
        self._budget.give_back(sum(len(piece.data) for piece in dropped))
        self.loose += 1

    def clear(self) -> None:
        """Hold nothing more."""
        self._budget.give_back(sum(len(piece.data) for piece in self.pieces))
        self.pieces = []
        self.loose = 0
