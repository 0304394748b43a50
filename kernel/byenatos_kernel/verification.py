"""Decide about one plugin folder: read it once, find out who signed it, and say so or say why not.

A plugin's code is never run for that. The order: read every byte; read the manifest among them; find a signature, in
the folder (``plugin.sig``) or by the operator (``<home>/signatures/ID.sig``); compare what it signs with what was read;
then ask what the operator revoked and which versions ran before. Versions compare by PEP 440 (``1.10`` is newer than
``1.9``, ``2.0rc1`` is older than ``2.0``).
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

from byenatos_kernel.access import read_access
from byenatos_kernel.environments import LOCK, check_environment, environment_of
from byenatos_kernel.models import printable
from byenatos_kernel.shipped import access_file, shipped
from byenatos_kernel.trust import Trust, read_trust
from byenatos_kernel.verdicts import Verdict
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import Manifest, parse_manifest
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, PermissionDenied
from byenatos_sdk.signing import (
    SIGNATURE,
    File,
    Statement,
    Untrusted,
    damage,
    decode_envelope,
    decode_statement,
    difference,
    digests_as,
    encode_statement,
    read_tree,
)
from byenatos_sdk.signing.envelope import MAX_ENVELOPE

__all__ = ["Policy", "Verified", "is_older", "read_policy", "verify"]


class Policy(Struct, frozen=True):
    """What decides: the operator's trust, whether unsigned folders may run, and the day.

    ``packages``: those that a folder asks for must be installed. ``highest`` finds the highest version of a plugin id
    by a publisher that was seen, if any was.
    """

    home: Home
    trust: Trust
    unsigned: bool
    today: dt.date
    packages: bool = True
    highest: Callable[[str, str], str | None] = lambda _id, _publisher: None


class Verified(Struct, frozen=True):
    """A verdict with the very bytes that it is about; those are empty if the folder was refused."""

    verdict: Verdict
    payload: bytes = b""
    envelope: bytes | None = None
    files: Mapping[str, File] = {}


def read_policy(home: Home, highest: Callable[[str, str], str | None] | None = None) -> Policy:
    """Read the operator's rules.

    Raises:
        InvalidRequest: a file is not as it must be; the message names it.
    """
    trust = read_trust([shipped("policies") / "trust", home.trust])
    unsigned = read_access(access_file(home)).plugins.unsigned
    today = dt.datetime.now(dt.UTC).date()
    return Policy(home, trust, unsigned, today, highest=highest or (lambda _id, _publisher: None))


def verify(folder: Path, policy: Policy) -> Verified:
    """Decide about ``folder``; never raises for what is in it."""
    verdict = Verdict(printable(folder), printable(folder.name))
    try:
        files = read_tree(folder)
        manifest = _manifest(folder, files)
        plugin = manifest.plugin
        verdict = Verdict(verdict.folder, plugin.id, plugin.version)  # its publisher is who signed it
        unsigned = ""
        try:
            payload, envelope, statement, verdict = _signed(verdict, files, policy)
        except Untrusted as error:
            unsigned = error.message
            if not policy.unsigned:
                raise
            payload = encode_statement(files, id=plugin.id, version=plugin.version, publisher="")
            statement = decode_statement(payload)  # what may not be signed may not be stored either
            envelope = None
        digest = hashlib.sha256(payload).hexdigest()
        publishers = {"", plugin.publisher, *(key.publisher for key in policy.trust.keys.values())}
        states = {digest, *digests_as(statement, publishers)}
        if envelope is None or SIGNATURE not in files or files[SIGNATURE].data != envelope:
            states |= _left_signed(files)
        verdict = _replace(verdict, digest=digest, unsigned=unsigned, states=tuple(sorted(states)))
        verdict = _admit(verdict, policy)
        return Verified(_with_environment(verdict, files, policy), payload, envelope, files)
    except OSError as error:
        place = f"{printable(error.filename)}: " if error.filename else ""
        return Verified(_replace(verdict, reason=f"cannot be read: {place}{error.strerror or error}"))
    except ByenatosError as error:
        return Verified(_replace(verdict, reason=printable(error.message)))


def is_older(version: str, than: str) -> bool:
    """Compare two versions by PEP 440.

    Raises:
        InvalidRequest: the first is no such version.
    """
    from packaging.version import InvalidVersion, Version

    try:
        found = Version(version)
    except InvalidVersion:
        raise InvalidRequest(
            f"plugin.version: expected a version like 1.2.3 (PEP 440), found {version!r:.80}"
        ) from None
    try:
        return found < Version(than)
    except InvalidVersion:
        return False


def _manifest(folder: Path, files: Mapping[str, File]) -> Manifest:
    file = files.get("plugin.toml")
    if file is None:
        raise InvalidRequest(f"{folder / 'plugin.toml'}: expected a manifest, found none")
    return parse_manifest(file.data, folder)


_Signed: TypeAlias = tuple[bytes, bytes, Statement, Verdict]
"""The payload, its envelope, what the payload says, and who signed it."""


def _signed(verdict: Verdict, files: Mapping[str, File], policy: Policy) -> _Signed:
    """Find a valid signature: the publisher's, else the operator's."""
    found = {SIGNATURE: files[SIGNATURE].data} if SIGNATURE in files else {}
    own = policy.home.signatures / f"{verdict.id}.sig"
    try:
        with own.open("rb") as file:
            found[str(own)] = file.read(MAX_ENVELOPE + 1)
    except FileNotFoundError:
        pass
    if not found:
        raise Untrusted(
            f"nobody signed it; look at what it does, then sign it yourself (byenatos driver sign {verdict.id}), or "
            "let all unsigned plugins run: unsigned = true under [plugins] in policies/access.toml of the home"
        )
    errors: list[Untrusted] = []
    for name, data in found.items():
        try:
            return _check(name, data, verdict, files, policy)
        except Untrusted as error:
            errors.append(error)
    again = f"; after a change that is meant: byenatos driver sign {verdict.id}" if len(found) == len(errors) else ""
    raise Untrusted(f"{'; '.join(error.message for error in errors)}{again}")


def _check(name: str, data: bytes, verdict: Verdict, files: Mapping[str, File], policy: Policy) -> _Signed:
    try:
        envelope = decode_envelope(data)
        key = policy.trust.check(envelope, policy.today)
        statement = decode_statement(envelope.payload)
        facts = statement.predicate
        if facts.publisher != key.publisher:
            raise Untrusted(f"publisher: expected {key.publisher}, whose key signed it, found {facts.publisher!r:.80}")
    except PermissionDenied as error:
        raise type(error)(f"{name}: {error.message}") from None
    if facts.id != verdict.id:
        raise Untrusted(f"{name}: expected a signature of {verdict.id}, found one of {facts.id!r:.80}")
    wrong = difference(statement, files)
    if wrong is not None:
        raise Untrusted(wrong)
    if facts.version != verdict.version:
        expected, found = facts.version, verdict.version
        raise Untrusted(f"plugin.toml: version: expected {expected!r:.80}, as it is signed, found {found!r:.80}")
    return envelope.payload, data, statement, _replace(verdict, publisher=key.publisher, key=key.id)


def _left_signed(files: Mapping[str, File]) -> set[str]:
    """The digest of what the folder's own signature is about, whoever made it, if these files are what it lists."""
    if SIGNATURE not in files:
        return set()
    try:
        payload = decode_envelope(files[SIGNATURE].data).payload
        if damage(decode_statement(payload), files) is None:
            return {hashlib.sha256(payload).hexdigest()}
    except Untrusted:
        pass
    return set()


def _admit(verdict: Verdict, policy: Policy) -> Verdict:
    """Ask for what no signature can make good: a revoked state, and an older version than was seen."""
    for state in verdict.states:
        reason = policy.trust.revoked.plugins.get(state)
        if reason is not None:
            raise PermissionDenied(f"this state of it ({state[:16]}…) is revoked: {reason}")
    if verdict.unsigned:
        return verdict
    highest = policy.highest(verdict.id, verdict.publisher)
    older = is_older(verdict.version, highest or verdict.version)
    if older and verdict.version not in policy.trust.downgrades.allowed.get(verdict.id, ()):
        raise PermissionDenied(
            f"version {verdict.version} is older than {highest}, which was here before; if you want it back: "
            f"byenatos driver allow-downgrade {verdict.id} {verdict.version}"
        )
    return _replace(verdict, newest=not older)


def _with_environment(verdict: Verdict, files: Mapping[str, File], policy: Policy) -> Verdict:
    lock = files.get(LOCK)
    if lock is None or not policy.packages:
        return verdict
    place = environment_of(policy.home, lock.data)
    if not place.is_dir():
        raise InvalidRequest(f"its packages ({LOCK}) are not installed: byenatos driver install {verdict.id}")
    try:
        stamp = check_environment(place)
    except Untrusted as error:
        raise InvalidRequest(f"{error.message}; install them again: byenatos driver install {verdict.id}") from None
    return _replace(verdict, environment=str(place), environment_stamp=stamp)


def _replace(verdict: Verdict, **changes: object) -> Verdict:
    return msgspec.structs.replace(verdict, **changes)
