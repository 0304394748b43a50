"""What runs inside a sandbox before the driver's entry does; ``launch`` runs it as a module with the spec's descriptor.

Order, and why it must be so:

1. the parent-death signal (``launch`` has it set before the imports already), *then* the question whether the parent is
   still the expected one: asked first, a parent that died in between would go unnoticed for ever;
2. no new privileges, so that no set-uid program gives back what the next steps take away, and because Landlock and
   seccomp ask for it;
3. limits, descriptors, file mode mask, signals, capabilities;
4. Landlock, which must open what its rules name;
5. not dumpable: no core file, and no other process of this user may trace this one or read its memory, environment or
   maps (what ``/proc/<pid>/stat``, ``statm`` and ``status`` say stays readable);
6. seccomp last: it forbids every step before it;
7. only now the entry is imported and called.

A step that the system refuses ends the process before the entry is imported: a sandbox is whole or does not run.
"""

import fcntl
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from byenatos_sandbox import capabilities, landlock, seccomp
from byenatos_sandbox.landlock import READ, READ_DEVICE, READ_WRITE, Rule
from byenatos_sandbox.linux import prctl
from byenatos_sandbox.spec import Spec

__all__ = ["CHANNEL", "EGRESS", "main"]

CHANNEL, EGRESS = 3, 4
"""Where every sandboxed process finds its channel and, if it has one, its port of the broker."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", f"{sys.base_prefix}/lib"),
    *("/etc/ld.so.cache", "/etc/mime.types", "/usr/share/zoneinfo"),
)
"""What the dynamic loader and the standard library read outside the interpreter's own folders."""
_CANNOT_START = 70  # EX_SOFTWARE of sysexits.h: tells "never ran" from a driver's own exit status 1


def main(arguments: list[str]) -> int:
    """Lock this process in as the spec says, call the entry, return the exit status."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    spec = Spec.read(int(arguments[0]))
    if os.getppid() != spec.parent:
        sys.stderr.write(f"sandbox: expected parent process {spec.parent}, found {os.getppid()}: it is gone\n")
        return _CANNOT_START
    _lock_in(spec)
    return _call(spec)


def _lock_in(spec: Spec) -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    spec.limits.apply()
    _place_descriptors({CHANNEL: spec.channel} | ({EGRESS: spec.egress} if spec.egress >= 0 else {}))
    os.umask(0o077)
    # dispositions and mask are inherited through exec: a parent that ignores TERM must not make drivers unstoppable
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    capabilities.drop()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if spec.layers and threads != 1:
        raise RuntimeError(f"expected one thread, found {threads}: Landlock and seccomp bind the calling one only")
    if "landlock" in spec.layers:
        landlock.restrict(_rules(spec))
    prctl(_PR_SET_DUMPABLE, 0)
    if "seccomp" in spec.layers:
        seccomp.install(seccomp.program(os.getpid(), writable_code=spec.writable_code))


def _rules(spec: Spec) -> list[Rule]:
    readable = [*_SYSTEM, *sys.path, *spec.files, *([spec.plugin] if spec.plugin else [])]
    rules = [Rule(Path(path), READ) for path in readable]
    rules += [Rule(Path("/dev", name), READ) for name in ("urandom", "random")]
    rules.append(Rule(Path("/dev/null"), READ_DEVICE))
    rules.append(Rule(Path(spec.scratch), READ_WRITE))
    return rules


def _call(spec: Spec) -> int:
    """Import and call foreign code; whatever it raises becomes a traceback on stderr and an exit status."""
    try:
        if spec.plugin:
            sys.path.append(spec.plugin)
        module, _, function = spec.entry.partition(":")
        entry: Callable[[int, bytes], None] = getattr(importlib.import_module(module), function)
        entry(CHANNEL, spec.config)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        sys.stderr.write(f"{leaving.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - foreign code
        traceback.print_exc()
        return 1
    return 0


def _place_descriptors(wanted: dict[int, int]) -> None:
    """Have the descriptors at the numbers they are wanted at, none inherited further, and close all others."""
    aside = {place: fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, EGRESS + 1) for place, found in wanted.items()}
    for place, copy in aside.items():
        os.dup2(copy, place, inheritable=False)
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in {0, 1, 2, *wanted}:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the descriptor of the listing itself is gone by now


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # Not sys.exit: it would wait for threads that a driver left running, and run its exit handlers.
    os._exit(status)
