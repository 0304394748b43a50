"""Write the table of attacks, ``README.md``, anew: ``python -m tests.escapes``."""

import sys
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from attacks.corpus import ATTACKS, NOT_STOPPED_YET  # noqa: E402 - found in this folder only now
from attacks.registry import KINDS_OF_STOPPERS  # noqa: E402 - the same

TABLE = HERE / "README.md"

_BEFORE = """\
# The escape corpus

{count} attacks that a hostile driver might make, one function each, in [`attacks/`](attacks). Each is made

- **inside** a sandbox with all layers, as root and as an ordinary user, where it must get nothing: no answer, no file
  changed outside, no other process touched, no socket spoken to, nothing left behind, and no memory of the launching
  process taken;
- **outside**, in a plain process ([`outside.py`](outside.py)), where it must work: an attack that works nowhere proves
  nothing. Nobody's machine is to be hurt, so that process has no capabilities, and a bomb stops soon after it got more
  than a sandbox may have. What may fail outside as well says what it needs.

[`test_layers.py`](test_layers.py) leaves out layers, to see that each is real.

[`test_other_templates.py`](test_other_templates.py) makes them in sandboxes of the shared template and in forks of a
sandboxed one; the two that compare address layouts and hash seeds are left out there, where these are shared.

What stops an attack is any *one* of those named:

{stoppers}

What is not stopped, and therefore not here: to measure time and what the processor's caches share; to ask for the load
of the machine and its memory (`sysinfo`), and how full the disk is that its libraries lie on (`statfs`); to read as
fast as a disk can; and, where there are no control groups, to have the system remember which names do not exist, in
memory that it gives back when it runs short.

This file is written by `python -m tests.escapes`.
"""


def text() -> str:
    """Return what the file must say."""
    stoppers = "\n".join(f"- *{name}*: {what};" for name, what in KINDS_OF_STOPPERS.items()).removesuffix(";") + "."
    parts = [_BEFORE.format(count=len(ATTACKS), stoppers=stoppers)]
    for category, attacks in groupby(ATTACKS.values(), lambda one: one.category):
        rows = list(attacks)
        parts.append(f"\n## {category.capitalize()} ({len(rows)})\n\n")
        parts.append("| attack | stopped by | works outside |\n|---|---|---|\n")
        for one in rows:
            stopped = ", ".join(one.stopped_by) + (" (**not yet**)" if one.name in NOT_STOPPED_YET else "")
            outside = f"perhaps: {one.needs}" if one.needs else "yes"
            parts.append(f"| {one.name.replace('_', ' ')} | {stopped} | {outside} |\n")
    return "".join(parts)


if __name__ == "__main__":
    TABLE.write_text(text())
