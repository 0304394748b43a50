"""Publishers' keys: Ed25519, the private one as PKCS8 PEM (mode 0600), the public one as a small TOML file.

::

    publisher = "acme"
    id = "9f86d081884c7d65"
    key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    expires = 2028-11-26

The id is the beginning of the key's SHA-256: it finds a key, it proves nothing. A private key is never shown, and is
read only where something is signed.
"""

import base64
import binascii
import datetime as dt
import hashlib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.signing.envelope import Envelope, encode_envelope, pae
from byenatos_sdk.signing.statement import Untrusted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "KeyPair",
    "PublicKey",
    "check_signature",
    "format_public_key",
    "make_keys",
    "parse_public_key",
    "read_keys",
    "read_public_key",
    "sign",
]

MAX_KEY_FILE = 4096
_PUBLISHER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY_BYTES = 32


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written."""

    publisher: str
    id: str
    key: str
    expires: dt.date


class PublicKey(Struct, frozen=True):
    """A publisher's key, ``raw`` as Ed25519 defines it; it signs what is verified until the day ``expires``."""

    publisher: str
    raw: bytes
    expires: dt.date

    @property
    def id(self) -> str:
        """How the key is called."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


class KeyPair:
    """A private key with its public half. It has no ``repr`` that could show the key."""

    __slots__ = ("private", "public")

    def __init__(self, private: "Ed25519PrivateKey", public: PublicKey) -> None:
        self.private = private
        self.public = public


def parse_public_key(data: bytes, name: str) -> PublicKey:
    """Read a public key; ``name`` stands in messages.

    Raises:
        InvalidRequest: naming the key of the file, what was expected and what was found.
    """
    if len(data) > MAX_KEY_FILE:
        raise InvalidRequest(f"{name}: expected at most {MAX_KEY_FILE} bytes, found more")
    try:
        found = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InvalidRequest(f"{name}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name}: not valid TOML: {error}") from None
    if not _PUBLISHER.fullmatch(found.publisher):
        raise InvalidRequest(f"{name}: publisher: expected {_PUBLISHER.pattern}, found {found.publisher!r:.100}")
    try:
        raw = base64.b64decode(found.key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{name}: key: expected base64: {error}") from None
    if len(raw) != _KEY_BYTES or base64.b64encode(raw).decode() != found.key:
        raise InvalidRequest(f"{name}: key: expected {_KEY_BYTES} bytes in base64, found {found.key!r:.100}")
    public = PublicKey(found.publisher, raw, found.expires)
    if found.id != public.id:
        raise InvalidRequest(f"{name}: id: expected {public.id}, the beginning of the key's SHA-256, found another")
    return public


def format_public_key(key: PublicKey) -> str:
    """Write a public key as its file."""
    text = base64.b64encode(key.raw).decode()
    return f'publisher = "{key.publisher}"\nid = "{key.id}"\nkey = "{text}"\nexpires = {key.expires.isoformat()}\n'


def read_public_key(path: Path) -> PublicKey:
    """Read ``path``; raises ``InvalidRequest`` as :func:`parse_public_key` does."""
    try:
        with path.open("rb") as file:
            return parse_public_key(file.read(MAX_KEY_FILE + 1), str(path))
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror or error}") from None


def make_keys(path: Path, publisher: str, expires: dt.date) -> KeyPair:
    """Make a key, write its private half to ``path`` (``….key``, mode 0600) and its public one beside it (``….pub``).

    Raises:
        InvalidRequest: the publisher's name is none, or one of the files is there already.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not _PUBLISHER.fullmatch(publisher):
        raise InvalidRequest(f"publisher: expected {_PUBLISHER.pattern}, found {publisher!r:.100}")
    if path.suffix != ".key":
        raise InvalidRequest(f"{path}: expected a file name that ends in .key")
    private = Ed25519PrivateKey.generate()
    pair = KeyPair(private, PublicKey(publisher, private.public_key().public_bytes_raw(), expires))
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _create(path, pem, 0o600)
    try:
        _create(path.with_suffix(".pub"), format_public_key(pair.public).encode(), 0o644)
    except InvalidRequest:
        path.unlink()
        raise
    return pair


def read_keys(path: Path) -> KeyPair:
    """Read the private key ``path`` and the public one beside it.

    Raises:
        InvalidRequest: a file is missing or not as it must be, or others may read the private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = read_public_key(path.with_suffix(".pub"))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            pem = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise InvalidRequest(f"{path}: expected a file that only you may read, found mode {stat.S_IMODE(mode):04o}: "
                             f"chmod 600 {path}")  # fmt: skip
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidRequest(f"{path}: expected an Ed25519 key as PKCS8 PEM without a password") from None
    if not isinstance(private, Ed25519PrivateKey) or private.public_key().public_bytes_raw() != public.raw:
        raise InvalidRequest(f"{path}: expected the private half of {path.with_suffix('.pub').name}, found another key")
    return KeyPair(private, public)


def sign(statement: bytes, keys: KeyPair) -> bytes:
    """Sign a statement and return the envelope."""
    return encode_envelope(statement, keys.public.id, keys.private.sign(pae(statement)))


def check_signature(envelope: Envelope, key: PublicKey) -> None:
    """Make sure that ``key`` signed the envelope's payload.

    Raises:
        Untrusted: it did not.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(envelope.signature, pae(envelope.payload))
    except (InvalidSignature, ValueError):
        raise Untrusted(f"expected a signature by the key {key.id} of {key.publisher}, found one that is not") from None


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise InvalidRequest(f"{path}: there is a key already; name another file or move it away") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
