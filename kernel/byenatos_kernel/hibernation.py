"""Hibernated warm state: encrypted files, one for each session, which only the kernel writes and reads.

::

    magic (8 bytes) | header length (u32) | header (msgpack) | for each piece: length (u32) | nonce (12) | ciphertext

Each piece is encrypted by AES-256-GCM with a nonce of its own; the header and the piece's number are authenticated with
it, so pieces can be neither changed, swapped, left out nor put under another session's name. The number of pieces is in
the header. The key is 32 random bytes in a file of the home that only its owner can read; it is made when it is first
needed. A file is written under another name and renamed when it is whole.

``cryptography`` brings OpenSSL along (8 MB): it is loaded by the first file, not by the kernel's start.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Dormant", "Hibernation", "StoredPiece"]

MAGIC = b"BYENWARM"
KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
MAX_HEADER = 64 << 10
MAX_PIECE = 1 << 30
MAX_PIECES = 1 << 20
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")


class Dormant(Struct, frozen=True):
    """The header of a file: whose state it holds, for instances of which ``layout``, how far and in how many pieces."""

    session: str
    layout: str
    positions: int
    pieces: int


class StoredPiece(Struct, frozen=True):
    """One piece as it is stored."""

    start: int
    stop: int
    data: bytes


class Hibernation:
    """The files in ``folder``. All methods block: call them in a thread."""

    def __init__(self, folder: Path, key_file: Path) -> None:
        self._folder = folder
        self._key_file = key_file

    def names(self) -> set[str]:
        """The names of all files; :meth:`name` says which is a session's."""
        try:
            return {path.name for path in self._folder.iterdir() if path.suffix == ".warm"}
        except FileNotFoundError:
            return set()

    @staticmethod
    def name(session: str) -> str:
        """The name of a session's file."""
        return hashlib.blake2b(session.encode(errors="surrogatepass"), digest_size=24).hexdigest() + ".warm"

    def write(self, dormant: Dormant, pieces: list[StoredPiece]) -> int:
        """Write a session's state; return the size of the file in bytes.

        Raises:
            Unavailable: it cannot be written.
        """
        cipher = self._cipher()
        header = msgspec.msgpack.encode(dormant)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            half = self._folder / f"{self.name(dormant.session)}.half"
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(MAGIC + _LENGTH.pack(len(header)) + header)
                for number, piece in enumerate(pieces):
                    nonce = os.urandom(NONCE_BYTES)
                    sealed = cipher.encrypt(nonce, msgspec.msgpack.encode(piece), header + _NUMBER.pack(number))
                    file.write(_LENGTH.pack(len(sealed)) + nonce)
                    file.write(sealed)
                size = file.tell()
            half.replace(self._folder / self.name(dormant.session))
        except OSError as error:
            raise Unavailable(f"the state of {dormant.session!r} cannot be written: {error.strerror}") from None
        return size

    def read(self, session: str) -> tuple[Dormant, Iterator[StoredPiece]]:
        """Read a session's state: its header, and its pieces one by one as they are asked for.

        Raises, also while pieces are asked for:
            NotFound: there is none.
            InvalidRequest: the file is not what was written.
            Unavailable: it cannot be read.
        """
        path = self._folder / self.name(session)
        try:
            with path.open("rb") as file:
                head = file.read(len(MAGIC) + _LENGTH.size)
                if not head.startswith(MAGIC) or len(head) != len(MAGIC) + _LENGTH.size:
                    raise _damaged(path)
                length = _LENGTH.unpack_from(head, len(MAGIC))[0]
                header = file.read(length) if length <= MAX_HEADER else b""
        except FileNotFoundError:
            raise NotFound(f"session {session!r} is not hibernated") from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
        try:
            dormant = msgspec.msgpack.decode(header, type=Dormant)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise _damaged(path) from None
        if dormant.session != session or not 0 < dormant.pieces <= MAX_PIECES or not header:
            raise _damaged(path)
        return dormant, self._pieces(path, header, dormant)

    def remove(self, session: str) -> None:
        """Forget a session's state, if there is any."""
        (self._folder / self.name(session)).unlink(missing_ok=True)

    def _pieces(self, path: Path, header: bytes, dormant: Dormant) -> Iterator[StoredPiece]:
        from cryptography.exceptions import InvalidTag

        cipher = self._cipher()
        stop = 0
        try:
            with path.open("rb") as file:
                file.seek(len(MAGIC) + _LENGTH.size + len(header))
                for number in range(dormant.pieces):
                    head = file.read(_LENGTH.size + NONCE_BYTES)
                    length = _LENGTH.unpack_from(head)[0] if len(head) == _LENGTH.size + NONCE_BYTES else 0
                    sealed = file.read(length) if TAG_BYTES <= length <= MAX_PIECE else b""
                    if not sealed or len(sealed) != length:
                        raise _damaged(path)
                    plain = cipher.decrypt(head[_LENGTH.size :], sealed, header + _NUMBER.pack(number))
                    piece = msgspec.msgpack.decode(plain, type=StoredPiece)
                    if piece.start != stop or piece.stop <= stop:
                        raise _damaged(path)
                    stop = piece.stop
                    yield piece
                if file.read(1) or stop != dormant.positions:
                    raise _damaged(path)
        except InvalidTag:
            raise _damaged(path) from None
        except msgspec.DecodeError:
            raise _damaged(path) from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from None

    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key())

    def _key(self) -> bytes:
        """Read the key, or make it.

        Raises:
            Unavailable: it cannot be read, or others can read it too.
        """
        path = self._key_file
        try:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                half = path.with_name(f"{path.name}.{os.getpid()}")
                descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(os.urandom(KEY_BYTES))
                half.replace(path)
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                key = file.read(KEY_BYTES + 1)
        except OSError as error:
            raise Unavailable(f"{path}: the key of hibernated sessions cannot be used: {error.strerror}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Unavailable(f"{path}: expected a key that only its owner can read (chmod 600), others can as well")
        if len(key) != KEY_BYTES:
            raise Unavailable(f"{path}: expected a key of {KEY_BYTES} bytes, found another size")
        return key


def _damaged(path: Path) -> InvalidRequest:
    return InvalidRequest(f"{path}: expected a hibernated session as this kernel wrote it, found something else")
