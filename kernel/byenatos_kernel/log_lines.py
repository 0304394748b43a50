"""What a log line looks like, whatever a driver had a hand in what it says.

Much of what is logged are words of drivers: why a model could not be loaded, how one feels, what a file is. Each record
begins at the left margin with its time, and nothing else does: further lines are indented, so that no driver can write
a line that looks like another record. Control characters, and those that turn the order of letters, are written as
their numbers, so that whoever looks at the log with a terminal sees them and not what they do.
"""

import logging
import re

from byenatos_kernel.unseen import CONTROL, ORDER

__all__ = ["LogLines"]

_NOT_SHOWN = re.compile(rf"[{CONTROL}{ORDER}\u2028\u2029\ud800-\udfff]")
_NEXT_LINE = re.compile(r"\n(?=\S)")


class LogLines(logging.Formatter):
    """Writes records with their time and level."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; see above for what becomes of what it says."""
        text = _NOT_SHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), super().format(record))
        return _NEXT_LINE.sub("\n  ", text)
