"""Starts one sandboxed process: a grant goes in, a :class:`~byenatos_sandbox.process.Process` comes out.

What happens before a line of the driver's code is imported, in every process:

- a session and a process group of its own, so that it is stopped as a whole and a Ctrl-C never reaches it;
- death with its parent: SIGKILL when the launching thread ends, however it ends;
- no new privileges, no capabilities, not dumpable, resource limits (``limits.py``), file mode mask 077;
- an environment of the grant's variables and a few fixed ones; a private scratch folder as HOME, TMPDIR and working
  directory; no descriptor but stdin (empty), stdout, stderr (both captured) and the channel;
- Python's isolated mode: neither the working directory nor the user's site folder is imported from;

and then, where the machine has them (``layers.py``) and the grant does not leave them out:

- **landlock**: of the file system it may read the interpreter's modules, the system's libraries, its plugin folder and
  the granted files, and write in its scratch folder; nothing else can be opened, no TCP connection made, no process
  outside signalled;
- **seccomp**: the system calls of an honest driver only: no fork, no exec, no socket, no change of modes or owners.

What they do **not** stop:

- *looking around*: without a mount and a process namespace, whether a path exists and how large it is can be asked;
- *resources*: total disk space in the scratch folder (each file is bounded), the number of threads and CPU time are not
  bounded; memory is as far as the grant bounds it;
- *a hole in the kernel* behind one of the calls that are left.

``Process.layers`` says which layers a process has.

Why the main thread: the parent-death signal fires when the *thread* that forked ends, not the process. A sandbox
launched from a worker of a thread pool would be killed when the pool shrinks.

Why no ``preexec_fn``: it runs Python between fork and exec, in a process whose other threads (libzmq's) are gone while
their locks are held. The child locks itself in after exec instead, and a step that fails ends it.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from byenatos_sandbox.capture import OutputCapture
from byenatos_sandbox.channel import open_channel
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.layers import LAYERS, missing
from byenatos_sandbox.limits import Limits
from byenatos_sandbox.output import OutputTail
from byenatos_sandbox.process import Process
from byenatos_sandbox.spec import Spec
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["LaunchError", "launch"]

_FIRST_WORDS = """
import ctypes
ctypes.CDLL(None).prctl(1, 9)
import runpy
runpy.run_module("byenatos_sandbox.child", run_name="__main__")
"""
"""The parent-death signal comes before the imports: until it is set, a parent that dies leaves an orphan behind."""

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class LaunchError(ByenatosError):
    """No process could be started; nothing is left of the attempt. The message says what failed and what to do."""


def launch(
    grant: Grant,
    *,
    entry: str,
    config: bytes,
    egress: socket.socket | None = None,
    on_exit: Callable[[Process], None] | None = None,
) -> Process:
    """Start a sandboxed Python process that calls ``entry`` (``module:function``) with its channel and ``config``.

    ``egress`` is the driver's end of a port of the broker, which stays the caller's; the process finds it at descriptor
    4, as it finds its channel at 3.
    Returns at once; what goes wrong from then on is seen as the process's exit and output. ``on_exit`` is called in the
    event loop after the process is gone and reaped. Call it in the main thread, from a running event loop.

    Raises:
        LaunchError: if the process cannot be started.
    """
    if threading.current_thread() is not threading.main_thread():
        raise LaunchError(
            f"{grant.name}: expected to be launched in the main thread, found {threading.current_thread().name!r}: "
            "a sandbox dies with the thread that launched it; use loop.call_soon_threadsafe"
        )
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise LaunchError(f"{grant.name}: expected a running event loop, found none: call from a coroutine") from None
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # some service managers leave it so, and exec keeps it
        raise LaunchError(
            f"{grant.name}: expected SIGCHLD at its default, found it ignored: the system would reap the process "
            "unseen and give its pid away; call signal.signal(SIGCHLD, SIG_DFL) at start"
        )
    if not _ENTRY.fullmatch(entry):
        raise LaunchError(f"{grant.name}: entry: expected 'module:function', found {entry!r}")
    if grant.plugin and not Path(grant.plugin).is_dir():
        raise LaunchError(f"{grant.name}: plugin: expected a folder, found none at {grant.plugin}")
    try:
        with ExitStack() as undo:
            process = _start(grant, undo, loop, entry=entry, config=config, egress=egress, on_exit=on_exit)
            undo.pop_all()
    except OSError as error:
        raise LaunchError(f"{grant.name}: cannot start a process: {error}") from error
    return process


def _start(
    grant: Grant,
    undo: ExitStack,
    loop: asyncio.AbstractEventLoop,
    *,
    entry: str,
    config: bytes,
    egress: socket.socket | None,
    on_exit: Callable[[Process], None] | None,
) -> Process:
    """Open everything, ``undo`` holding what must be given back should a later step fail."""
    with ExitStack() as childs:  # the child's ends: ours to close in any case
        scratch = Path(tempfile.mkdtemp(prefix="byenatos-sandbox-", dir=grant.scratch_root or None))
        undo.callback(scratch.rmdir)
        channel, listener = open_channel(scratch)
        undo.callback(channel.close)
        childs.callback(os.close, listener)
        pipes = undo.enter_context(ExitStack())
        stdout, stdout_end = _pipe(pipes, childs)
        stderr, stderr_end = _pipe(pipes, childs)
        limits = Limits(grant.memory_mib, grant.open_files, grant.file_size_mib)
        layers = _layers(grant)
        spec = Spec(
            os.getpid(),
            listener,
            entry,
            grant.plugin,
            config,
            limits,
            egress=egress.fileno() if egress is not None else -1,
            files=grant.files,
            scratch=str(scratch),
            layers=frozenset(name for name, state in layers.items() if state == "on"),
            writable_code=grant.writable_code,
        ).write()
        childs.callback(os.close, spec)
        # -I: nothing is imported from the working directory or the user's site folder; -B: nothing is written beside
        # the driver's code; -u: the last line before a crash is not lost in a buffer
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-I", "-B", "-u", "-c", _FIRST_WORDS, str(spec)],
            stdin=subprocess.DEVNULL,
            stdout=stdout_end,
            stderr=stderr_end,
            close_fds=True,
            pass_fds=(listener, spec, *([egress.fileno()] if egress is not None else [])),
            start_new_session=True,
            cwd=scratch,
            env=_environment(grant, scratch),
        )
        undo.callback(child.wait)
        undo.callback(child.kill)
        pidfd = os.pidfd_open(child.pid)
        undo.callback(os.close, pidfd)
        capture = OutputCapture(
            loop, (stdout, stderr), OutputTail(grant.output_lines), kib_per_s=grant.output_kib_per_s
        )
        pipes.pop_all()
        undo.callback(capture.close)
        return Process(
            grant,
            child=child,
            pidfd=pidfd,
            channel=channel,
            capture=capture,
            scratch=scratch,
            layers={"process": "on"} | layers,
            on_exit=on_exit,
        )


def _layers(grant: Grant) -> dict[str, str]:
    """Say of each layer whether it is on, and if not, why."""
    states = dict.fromkeys(LAYERS, "on")
    states |= {name: f"missing: {why}" for name, why in missing().items()}
    return states | dict.fromkeys(grant.without, "off: left out by the grant")


def _pipe(undo: ExitStack, childs: ExitStack) -> tuple[int, int]:
    """Return the end that we read, without waiting, and the end that the child writes, which waits."""
    ours, its = os.pipe()
    undo.callback(os.close, ours)
    childs.callback(os.close, its)
    os.set_blocking(ours, False)
    return ours, its


def _environment(grant: Grant, scratch: Path) -> dict[str, str]:
    environment = {
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": str(grant.threads),
        "PATH": "/usr/bin:/bin",
        "LOGNAME": "driver",
        "TMPDIR": str(scratch),
        "USER": "driver",
    }
    if "TZ" in os.environ:
        environment["TZ"] = os.environ["TZ"]
    return environment | grant.environment
