"""Print an answer while it streams, and where it moved to another model."""

import sys
from collections.abc import Iterable

from byenatos_kernel.cli.screen import dim, is_terminal, one_line, printable, say, write
from byenatos_sdk.protocol.messages import Delta, Moved, TextDelta

__all__ = ["show_answer", "show_note"]


def show_answer(deltas: Iterable[Delta]) -> None:
    """Print the text of ``deltas`` as it comes.

    In a pipe standard output carries the model's text alone, unchanged; on a terminal, without its control characters.
    """
    terminal = is_terminal()
    ended_well = begun = False
    try:
        for delta in deltas:
            begun = True
            if isinstance(delta, TextDelta):
                write(printable(delta.text) if terminal else delta.text)
            elif isinstance(delta, Moved):
                show_note(f"{delta.source} → {delta.target}, {delta.reason}", inline=True)
        ended_well = True
    finally:
        if begun or ended_well:
            say()


def show_note(text: str, *, inline: bool = False) -> None:
    """Print what is not part of the answer: dim on a terminal, on standard error in a pipe."""
    shown = one_line(text) if inline else printable(text)
    if not is_terminal():
        sys.stderr.write(f"byenatos: {shown}\n")
        sys.stderr.flush()
    elif inline:
        write(dim(f" ⟨{shown}⟩ "))
    else:
        say(dim(shown))
