"""What is signed: an in-toto Statement that lists every file of a plugin folder by its SHA-256.

::

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "driver.py", "digest": {"sha256": "…", "blake2b": "…"}}, …],
     "predicateType": "https://byenatos.dev/plugin/v1",
     "predicate": {"id": "acme", "version": "1.0.0", "publisher": "acme", "executable": [], "writable": []}}

Each file has two hashes: SHA-256, by which it is verified, and BLAKE2b, by which the kernel makes sure of it before
each start: Python's own is three times as fast as its SHA-256, and the kernel does without OpenSSL's.

The predicate names the files that may be executable or writable by others than their owner; all others may not.
``plugin.sig`` carries the signature and is no subject. The bytes are signed as they are, so that no canonical form of
JSON is needed; their SHA-256 is the *digest* by which one state of a plugin is known.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct, field

from byenatos_sdk.protocol.errors import PermissionDenied
from byenatos_sdk.signing.tree import MAX_FILES, MAX_NAME, File, name_fault

__all__ = [
    "SIGNATURE",
    "Facts",
    "Statement",
    "Untrusted",
    "damage",
    "decode_statement",
    "difference",
    "digests_as",
    "encode_statement",
]

SIGNATURE: Final = "plugin.sig"
"""The file of a plugin folder that carries its signature."""
MAX_STATEMENT = 2 << 20
_OTHER_CONTENT = "expected the content that is signed, found another"
_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://byenatos.dev/plugin/v1"
_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_PUBLISHER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}|")
_VERSION = re.compile(r"[!-~]{1,64}")


class Untrusted(PermissionDenied):
    """A folder, signature or key is not what was signed or may not be trusted. The message names it and the reason."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A table of the statement: unknown keys are errors; none leads back to itself."""


class Digest(_Strict, frozen=True):
    """A file's hashes, in hexadecimal."""

    sha256: str
    blake2b: str


class Subject(_Strict, frozen=True):
    """One file: its path below the folder, with ``/`` between the parts."""

    name: str
    digest: Digest


class Facts(_Strict, frozen=True):
    """The predicate. ``publisher`` is empty in the statement of a folder that nobody signed."""

    id: str
    version: str
    publisher: str
    executable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()


class Statement(_Strict, frozen=True):
    """A plugin folder at one moment, and what it is."""

    type: str = field(name="_type")
    subject: tuple[Subject, ...] = ()
    predicate_type: str = field(name="predicateType", default="")
    predicate: Facts = field(default_factory=lambda: Facts("", "", ""))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Statement).decode


def encode_statement(files: Mapping[str, File], *, id: str, version: str, publisher: str) -> bytes:
    """Describe what was read of a plugin folder; ``plugin.sig`` is left out."""
    names = sorted(name for name in files if name != SIGNATURE)
    facts = Facts(
        id,
        version,
        publisher,
        tuple(name for name in names if files[name].executable),
        tuple(name for name in names if files[name].writable),
    )
    subjects = tuple(Subject(name, _digest(files[name].data)) for name in names)
    return _encode(Statement(_TYPE, subjects, _PREDICATE, facts))


def digests_as(statement: Statement, publishers: Iterable[str]) -> set[str]:
    """Return the digests that the same files have as each publisher's plugin, with their permissions and with none.

    The same content has a digest for each publisher who signs it, and one more when nobody does.
    """
    facts = statement.predicate
    permissions = {(facts.executable, facts.writable), ((), ())}
    whole = _encode(statement)
    common = hashlib.sha256(whole[: -len(_encode(facts)) - 1])  # the predicate comes last: all before it is the same
    found = set()
    for publisher in publishers:
        for executable, writable in permissions:
            digest = common.copy()
            digest.update(_encode(Facts(facts.id, facts.version, publisher, executable, writable)) + b"}")
            found.add(digest.hexdigest())
    return found


def decode_statement(payload: bytes) -> Statement:
    """Read a statement.

    Raises:
        Untrusted: it is not as it must be.
    """
    if len(payload) > MAX_STATEMENT:
        raise Untrusted(f"statement: expected at most {MAX_STATEMENT} bytes, found {len(payload)}")
    try:
        statement = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Untrusted(f"statement: expected an in-toto Statement about a plugin: {error}") from None
    wrong = _wrong(statement)
    if wrong is not None:
        raise Untrusted(f"statement: {wrong}")
    return statement


def _wrong(statement: Statement) -> str | None:
    facts = statement.predicate
    if statement.type != _TYPE:
        return f"_type: expected {_TYPE}, found {statement.type!r:.100}"
    if statement.predicate_type != _PREDICATE:
        return f"predicateType: expected {_PREDICATE}, found {statement.predicate_type!r:.100}"
    for key, value, pattern in (
        ("id", facts.id, _ID),
        ("version", facts.version, _VERSION),
        ("publisher", facts.publisher, _PUBLISHER),
    ):
        if not pattern.fullmatch(value):
            return f"predicate.{key}: expected {pattern.pattern}, found {value!r:.100}"
    if not 0 < len(statement.subject) <= MAX_FILES:
        return f"subject: expected 1 to {MAX_FILES} files, found {len(statement.subject)}"
    if not _all_plain(statement.subject):
        wrong = _wrong_subject(statement.subject)
        if wrong is not None:
            return wrong
    names = {subject.name for subject in statement.subject}
    if unknown := (set(facts.executable) | set(facts.writable)) - names:
        return f"predicate: expected permissions of files that are listed, found {min(unknown)!r:.100}"
    return None


def _all_plain(subjects: tuple[Subject, ...]) -> bool:
    """Whether nothing is wrong with the files that are listed: a quick look at all of them together."""
    names = [subject.name for subject in subjects]
    if names != sorted(set(names)) or SIGNATURE in names or any(map(name_fault, names)):
        return False
    sha256 = [subject.digest.sha256 for subject in subjects]
    blake2b = [subject.digest.blake2b for subject in subjects]
    if set(map(len, sha256)) != {64} or set(map(len, blake2b)) != {128}:
        return False
    return _are_digits("".join(sha256)) and _are_digits("".join(blake2b))


def _wrong_subject(subjects: tuple[Subject, ...]) -> str | None:
    last = ""
    for subject in subjects:
        name = subject.name
        if (fault := name_fault(name)) is not None:
            return f"subject: expected a relative path of at most {MAX_NAME} bytes, found {name!r:.100}: {fault}"
        if name <= last or name == SIGNATURE:
            return f"subject: expected each file once, in order, without {SIGNATURE}, found {name!r:.100}"
        if not _is_digest(subject.digest):
            return f"subject: {name}: expected a SHA-256 of 64 and a BLAKE2b of 128 hexadecimal digits"
        last = name
    return None


def _is_digest(digest: Digest) -> bool:
    sha256, blake2b = digest.sha256, digest.blake2b
    return len(sha256) == 64 and len(blake2b) == 128 and _are_digits(sha256 + blake2b)


def _are_digits(text: str) -> bool:
    try:  # there and back again is a fifth of what a regular expression takes
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def difference(statement: Statement, files: Mapping[str, File]) -> str | None:
    """Say how a plugin folder differs from what is signed, naming the file; ``None`` if it does not."""
    wrong = _other_files(statement, files)
    if wrong is not None:
        return wrong
    executable, writable = set(statement.predicate.executable), set(statement.predicate.writable)
    for subject in statement.subject:
        name, file = subject.name, files[subject.name]
        if hashlib.sha256(file.data).hexdigest() != subject.digest.sha256:
            return f"{name}: {_OTHER_CONTENT}"
        if file.executable and name not in executable:
            return f"{name}: expected a file that is not executable, as it is signed; chmod a-x it"
        if name in executable and not file.executable:
            return f"{name}: expected an executable file, as it is signed; chmod u+x it"
        if file.writable and name not in writable:
            return f"{name}: expected a file that only its owner may write, as it is signed; chmod go-w it"
    return None


def damage(statement: Statement, files: Mapping[str, File]) -> str | None:
    """Say how a stored copy differs from what is signed, by the faster hash; its permissions do not matter."""
    wrong = _other_files(statement, files)
    if wrong is not None:
        return wrong
    for subject in statement.subject:
        if hashlib.blake2b(files[subject.name].data).hexdigest() != subject.digest.blake2b:
            return f"{subject.name}: {_OTHER_CONTENT}"
    return None


def _other_files(statement: Statement, files: Mapping[str, File]) -> str | None:
    signed = {subject.name for subject in statement.subject}
    found = files.keys() - {SIGNATURE}
    if missing := signed - found:
        return f"{min(missing)}: expected a file that is signed, found none"
    if extra := found - signed:
        return f"{min(extra)}: expected only files that are signed, found this one"
    return None


def _digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest(), hashlib.blake2b(data).hexdigest())
