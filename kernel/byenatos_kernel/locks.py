"""The lock in a plugin's folder: names, versions and hashes of packages, and nothing else that pip would take from it.

A requirements file may hold options, among them one that has packages built, which runs their code; and what is an
option is pip's to decide, by rules of its own for comments, line ends, encodings and variables. So pip is not shown the
lock, but what was understood of it, written anew.
"""

import re
from typing import Final

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["LOCK", "read_lock"]

LOCK: Final = "requirements.lock"
MAX_LOCK = 4 << 20

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_MARKER = r"(?:(?!--)[A-Za-z0-9_ .<>=!~()'\",+-])+"
_HASH = r"--hash=sha256:[0-9a-f]{64}"
_REQUIREMENT: Final = re.compile(
    rf"(?P<what>{_NAME}(?: ?\[{_NAME}(?:, ?{_NAME})*\])? ?== ?[A-Za-z0-9.!+_-]+)(?: ?; ?(?P<marker>{_MARKER}?))?"
    rf"(?P<hashes>(?: {_HASH})+)"
)
_COMMENT = re.compile(r"(?:^|\s+)#.*")


def read_lock(lock: bytes) -> str:
    """Return the requirements that a lock names, one a line, with their hashes.

    Raises:
        InvalidRequest: it is none, or asks for more than packages; the message names the line.
    """
    if len(lock) > MAX_LOCK:
        raise InvalidRequest(f"{LOCK}: expected at most {MAX_LOCK} bytes, found {len(lock)}")
    try:
        lines = lock.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{LOCK}: expected UTF-8: {error}") from None
    found: list[str] = []
    begun = ""
    for number, line in enumerate([*lines, ""], 1):
        text = _COMMENT.sub("", line.removesuffix("\r")).strip(" \t")
        begun += f" {text}" if not text.endswith("\\") else f" {text[:-1]}"
        if text.endswith("\\"):
            continue
        if whole := " ".join(begun.split()):
            found.append(_requirement(whole, number))
        begun = ""
    return "".join(f"{one}\n" for one in found)


def _requirement(text: str, number: int) -> str:
    """Read one requirement; ``number`` is that of its last line."""
    one = _REQUIREMENT.fullmatch(text)
    if one is None:
        raise InvalidRequest(
            f"{LOCK}: expected requirements like 'name==1.0 --hash=sha256:…' and no other option, found {text!r:.80} "
            f"(to line {number})"
        )
    marker = f" ; {one['marker'].strip()}" if one["marker"] else ""
    return f"{one['what']}{marker}{one['hashes']}"
