"""Starts one sandboxed process: a grant goes in, a :class:`~byenatos_sandbox.process.Process` comes out.

What stands around it before a line of the driver's code is imported, in every process:

- a session and a process group of its own, so that it is stopped as a whole and a Ctrl-C never reaches it;
- death with its parent: SIGKILL when the launching thread ends, however it ends;
- no new privileges, no capabilities, not dumpable, resource limits (``limits.py``), file mode mask 077;
- an environment of the grant's variables and a few fixed ones; a private scratch folder as HOME, TMPDIR and working
  directory; no descriptor but stdin (empty), stdout, stderr (both captured), the channel, the way to the broker where
  it has one, and the granted files; memory that it shares with the launching process, if it is granted any, is mapped
  and has no descriptor: it can be neither resized nor mapped again to be executed;
- Python's isolated mode: neither the working directory nor the user's site folder is imported from;

and then, where the machine has them (``layers.py``) and the grant does not leave them out:

- **namespaces**: users, processes, network, IPC, host name and cgroups of its own, made in one clone
  (``namespaces.py``): it is process 1 and sees no other, has no network at all, not even a loopback, and is nobody's
  user; and a **root of its own** (``root.py``): its code, read-only, a bounded scratch folder in which nothing can be
  executed, no ``/proc``, no ``/sys``, and no granted file by any name;
- **landlock**: of the file system it may read the interpreter's modules, the system's libraries and its plugin folder,
  and write in its scratch folder; nothing else can be opened (granted files are open), no TCP connection made, no
  process outside signalled;
- **seccomp**: the system calls of an honest driver only: no fork, no exec, no socket, no change of modes or owners;
- **cgroup**: its memory and its threads counted as a whole.

No layer relies on another. When all are on, the process has tried what must fail (``trial.py``), and this process has
looked at it from outside (``attestation.py``): only then is foreign code imported. ``Process.layers`` says which layers
a process has, ``Process.open`` what got through.

What they do **not** stop: *a hole in the system's kernel* behind one of the calls that are left; *what the processor
shares*, caches and time; and, without the namespaces, *looking around* (whether a path exists can be asked) and the
bounds on disk space and threads.

Why the main thread: the parent-death signal fires when the *thread* that forked ends, not the process. A sandbox
launched from a worker of a thread pool would be killed when the pool shrinks.
"""

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from byenatos_sandbox.attempt import Attempt, LaunchError
from byenatos_sandbox.channel import refuse_descriptors
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.handover import Handover
from byenatos_sandbox.isolation import NotIsolated
from byenatos_sandbox.layers import hopeless, lacks
from byenatos_sandbox.nurseries import Nursery
from byenatos_sandbox.nursery import Preload
from byenatos_sandbox.process import Process
from byenatos_sandbox.templates import Templates

__all__ = ["launch", "open_nursery"]

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def launch(
    grant: Grant,
    *,
    entry: str,
    config: bytes,
    code: Mapping[str, bytes] | None = None,
    egress: socket.socket | None = None,
    arena: int = -1,
    opened: Mapping[str, int] | None = None,
    dial: Callable[[], socket.socket] | None = None,
    sockets: Sequence[socket.socket] = (),
    templates: Templates | None = None,
    nursery: Nursery | None = None,
    on_exit: Callable[[Process], None] | None = None,
) -> Process:
    """Start a sandboxed Python process that calls ``entry`` (``module:function``) with its channel and ``config``.

    Returns at once; what goes wrong from then on is seen as the process's exit and output. ``code`` are the files of
    the plugin, by path: what stands in its folder is not looked at then. ``egress`` becomes descriptor 4 inside;
    ``dial`` returns a new stream to the broker, or raises ``OSError``; it is for grants with an egress socket.
    ``arena``, a memory file of the granted size, is mapped there, and its descriptor closed before any of that. Files
    of the grant that are ``opened``, by path, are the very ones that are handed over, whatever their names lead to now.
    ``sockets`` have the descriptors behind those of the files.
    Without ``templates`` a cold one is started; with a ``nursery`` (:func:`open_nursery`) it is forked from that one.
    ``on_exit`` is called in the event loop after the process is gone and reaped. Call it in the main thread, from a
    running event loop.

    Raises:
        NotIsolated: if the grant requires a kind of isolation that nothing on this machine gives.
        LaunchError: if the process cannot be started.
    """
    handover = Handover(entry, config, opened or {}, code, egress, arena, sockets)
    return _launch(grant, handover, dial=dial, templates=templates, nursery=nursery, on_exit=on_exit)


def open_nursery(
    grant: Grant,
    *,
    preload: Preload,
    code: Mapping[str, bytes] | None = None,
    opened: Mapping[str, int] | None = None,
    templates: Templates | None = None,
    on_exit: Callable[[Process], None] = Process.close,
) -> Nursery:
    """Start a sandboxed template that does what ``preload`` says. ``opened`` is as for :func:`launch`.

    ``grant`` bounds it and all its instances together. Returns at once: orders wait until it is ready. ``on_exit`` is
    called when it has ended, and closes it.

    Raises:
        LaunchError: if it cannot be started.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    refuse_descriptors(ours)
    try:
        with its:
            handover = Handover(
                "byenatos_sandbox.nursery:serve", msgspec.msgpack.encode(preload), opened or {}, code, egress=its
            )
            process = _launch(grant, handover, templates=templates, on_exit=on_exit, forks=True)
    except BaseException:
        ours.close()
        raise
    return Nursery(process, ours, grant.scratch_mib * grant.instances)


def _launch(
    grant: Grant,
    handover: Handover,
    *,
    templates: Templates | None,
    on_exit: Callable[[Process], None] | None,
    dial: Callable[[], socket.socket] | None = None,
    nursery: Nursery | None = None,
    forks: bool = False,
) -> Process:
    _check(grant, handover)
    try:
        with ExitStack() as undo:
            attempt = Attempt(grant, handover, undo, templates=templates, nursery=nursery, forks=forks)
            process = attempt.make(dial=dial, on_exit=on_exit)
            undo.pop_all()
    except OSError as error:
        raise LaunchError(f"{grant.name}: cannot start a process: {error}") from error
    return process


def _check(grant: Grant, handover: Handover) -> None:
    """Refuse what cannot become a process, before anything is opened for it."""
    if threading.current_thread() is not threading.main_thread():
        raise LaunchError(
            f"{grant.name}: expected to be launched in the main thread, found {threading.current_thread().name!r}: "
            "a sandbox dies with the thread that launched it; use loop.call_soon_threadsafe"
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise LaunchError(f"{grant.name}: expected a running event loop, found none: call from a coroutine") from None
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # some service managers leave it so, and exec keeps it
        raise LaunchError(
            f"{grant.name}: expected SIGCHLD at its default, found it ignored: the system would reap the process "
            "unseen and give its pid away; call signal.signal(SIGCHLD, SIG_DFL) at start"
        )
    if not _ENTRY.fullmatch(handover.entry):
        raise LaunchError(f"{grant.name}: entry: expected 'module:function', found {handover.entry!r}")
    if grant.plugin and handover.code is None and not Path(grant.plugin).is_dir():
        raise LaunchError(f"{grant.name}: plugin: expected a folder, found none at {grant.plugin}")
    if wrong := _contradiction(grant, handover.code):
        raise LaunchError(f"{grant.name}: {wrong}")
    if grant.required and (nowhere := hopeless(grant.required, lacks())):
        raise NotIsolated.of(grant.name, nowhere)


def _contradiction(grant: Grant, code: Mapping[str, bytes] | None) -> str:
    """What in a grant does not go together, or not with what stands on the disk; nothing if all does."""
    if code is not None and not grant.plugin:
        return "plugin: expected the folder in which the files of the plugin are shown, found none"
    folder = os.path.realpath(grant.plugin)
    for path in grant.files if code is not None else ():
        if os.path.realpath(path).startswith(f"{folder}/"):
            return f"files: expected them outside of the plugin folder, which its code covers, found {path}; move it"
    for path in grant.devices:
        if Path(path).exists() and not Path(path).is_char_device():
            return f"devices: expected character devices, found something else at {path}"
    return ""
