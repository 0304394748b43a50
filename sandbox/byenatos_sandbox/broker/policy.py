"""Which of a driver's rules a request falls under, and why under none.

A request names its host by the one ``Host`` header, and its path in the one canonical spelling: two spellings of a path
are how a check and a server come to disagree about what is asked for.
"""

import re
from collections.abc import Sequence
from typing import Final

from byenatos_sandbox.broker.messages import Rule
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sdk.protocol.egress_paths import is_below

__all__ = ["DEFAULT_PORTS", "check_path", "match"]

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
LONGEST_TARGET = 16 << 10

_HOST: Final = re.compile(rb"([A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?")
_PATH: Final = re.compile(rb"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")
_QUERY: Final = re.compile(rb"[!-~]*")
_ESCAPE: Final = re.compile(rb"%(?:([0-9A-Fa-f]{2}))?")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/\\")


def check_path(path: bytes) -> str:
    """Say what is wrong with the spelling of a path; empty if nothing is."""
    if not _PATH.fullmatch(path):
        return "has characters that no path has"
    if b"//" in path:
        return "has an empty segment"
    if any(segment.split(b";", 1)[0] in {b".", b".."} for segment in path.split(b"/")):
        return "has a segment . or .."
    for escape in _ESCAPE.finditer(path):
        if escape[1] is None:
            return "has a % that begins no escape"
        value = int(escape[1], 16)
        if value in _UNRESERVED or value < 0x20 or value == 0x7F:
            return "has an escape that hides a letter, a separator or a control character"
    return ""


def match(rules: Sequence[Rule], method: str, host: bytes, target: bytes) -> Rule:
    """Find the rule that a request falls under.

    Raises:
        Refused: there is none, or it was not granted; the sentence says what is missing where.
    """
    if method == "CONNECT" or not target.startswith(b"/"):
        raise Refused(403, "only requests for a path are passed on: no CONNECT, no absolute form, no `*`")
    if len(target) > LONGEST_TARGET:
        raise Refused(414, f"the path and query are longer than {LONGEST_TARGET} bytes")
    found = _HOST.fullmatch(host)
    if found is None:
        raise Refused(400, "the Host header is not a host name with, perhaps, a port")
    name, port = found[1].decode().lower(), int(found[2]) if found[2] else None
    path, _, query = target.partition(b"?")
    if wrong := check_path(path):
        raise Refused(403, f"the path is not canonical: it {wrong}")
    if not _QUERY.fullmatch(query) or b"#" in query:
        raise Refused(403, "the query has characters that no query has")
    there = [rule for rule in rules if rule.host == name and (port or DEFAULT_PORTS[rule.scheme]) == rule.port]
    if not there:
        asked = f"{name}:{port}" if port else name
        raise Refused(403, f"the driver's plugin.toml asks for no access to {asked}")
    under = [rule for rule in there if any(is_below(path.decode(), prefix) for prefix in rule.paths)]
    if not under:
        raise Refused(403, f"the driver's plugin.toml asks for no access to this path of {name}")
    for rule in under:
        if method in rule.methods:
            if rule.refused:
                raise Refused(403, rule.refused)
            return rule
    raise Refused(405, f"the driver's plugin.toml asks for no {method:.20} to this path of {name}")
