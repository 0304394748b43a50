"""What a command prints: for people on a terminal, for people behind a pipe, and for programs.

On a terminal there is colour; in a pipe there are plain lines, never cut to a width. Text that came from a model or a
driver passes :func:`printable` first: an answer must not be able to move the cursor, retitle a window or have words
read in another order than they have; and :func:`one_line` where it must not look like a line of ours.
"""

import io
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from byenatos_kernel.unseen import CONTROL, ORDER

__all__ = [
    "complain",
    "dim",
    "is_terminal",
    "megabytes",
    "moment",
    "one_line",
    "open_streams",
    "printable",
    "say",
    "show_json",
    "show_json_line",
    "show_table",
    "write",
]

_CONTROL = re.compile(f"[{CONTROL}{ORDER}]")
_NEXT_LINE = re.compile(r"[\n\u2028\u2029](?=\S)")
_LINE_ENDS = re.compile(r"\s*[\n\u2028\u2029]\s*")
_NOT_ESCAPED_BY_JSON = re.compile(rf"[\x7f-\x9f{ORDER}]")


def open_streams() -> None:
    """Make the standard streams usable, however this process was called.

    One that was closed is opened on nothing, before what is opened next would take its place. A letter that the
    terminal's encoding lacks is printed as a question mark, and bytes that are no text are read as U+FFFD: neither ends
    an answer.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest one that is free, so this one
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            with suppress(io.UnsupportedOperation):  # somebody has read from it already
                stream.reconfigure(errors="replace")


def is_terminal() -> bool:
    """Say whether a person watches standard output."""
    return sys.stdout.isatty()


def printable(text: str) -> str:
    """Take the control characters out of ``text``, except tab and newline, and what turns the order of letters."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """Return what is :func:`printable` of ``text``, in one line."""
    return _LINE_ENDS.sub(" ", printable(text))


def write(text: str) -> None:
    """Print ``text`` as it is, at once: a broken pipe shows here and not when the interpreter ends."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Print a line for people."""
    write(text + "\n")


def complain(text: str) -> None:
    """Print what went wrong, and what to do, to standard error; only its first line stands at the margin."""
    shown = _NEXT_LINE.sub("\n  ", printable(text))
    sys.stdout.flush()
    sys.stderr.write(f"byenatos: {shown}\n")
    sys.stderr.flush()


def dim(text: str) -> str:
    """Return ``text`` as it is to be printed where it matters less."""
    return f"\x1b[2m{text}\x1b[0m" if is_terminal() and not os.environ.get("NO_COLOR") else text


def show_json(value: Any) -> None:
    """Print one JSON document."""
    say(_json(value, indent=2))


def show_json_line(value: Any) -> None:
    """Print one line of JSON: for commands that print many."""
    say(_json(value))


def _json(value: Any, indent: int | None = None) -> str:
    """Write JSON that is readable in every script, and moves nothing on a terminal."""
    readable = (sys.stdout.encoding or "utf-8").lower() == "utf-8"  # a stream of text that is kept has none
    text = json.dumps(msgspec.to_builtins(value), indent=indent, ensure_ascii=not readable)
    return _NOT_ESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their headings."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if is_terminal():
        _show_rich_table(columns, cells)
        return
    widths = [max(len(row[at]) for row in (columns, *cells)) for at in range(len(columns))]
    for row in ([column.upper() for column in columns], *cells):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_rich_table(columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in cells:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console().print(table)


def megabytes(size_bytes: int) -> str:
    """Write a size for people."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:.2f} GB"


def moment(at: float) -> str:
    """Write a time, in seconds since the epoch, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
