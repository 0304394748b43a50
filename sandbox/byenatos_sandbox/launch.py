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
import errno
import os
import re
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import msgspec

from byenatos_sandbox import cgroup, descriptors
from byenatos_sandbox.capture import OutputCapture
from byenatos_sandbox.channel import open_channel
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.isolation import NotIsolated
from byenatos_sandbox.layers import LAYERS, hopeless, lacks, missing
from byenatos_sandbox.limits import Limits
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.nurseries import Nursery
from byenatos_sandbox.nursery import Preload
from byenatos_sandbox.output import OutputTail
from byenatos_sandbox.process import Process
from byenatos_sandbox.spec import Spec
from byenatos_sandbox.template import Order
from byenatos_sandbox.templates import Template, Templates
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["LaunchError", "launch", "open_nursery"]

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_FIRST_USER, _USERS = 61184, 4096  # systemd's range of dynamic users
_users = count(os.getpid())
_SHARE_OF_MACHINE = 0.75
_FOR_A_FORK = 4  # descriptors while one is made
_ROOM_MIB = 16 << 10
"""Address space beyond memory and files: what threads reserve, and not more page tables than 32 MiB."""


class LaunchError(ByenatosError):
    """No process could be started; nothing is left of the attempt. The message says what failed and what to do."""


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
    return _launch(
        grant,
        entry=entry,
        config=config,
        code=code,
        egress=egress,
        arena=arena,
        opened=opened or {},
        dial=dial,
        sockets=sockets,
        templates=templates,
        nursery=nursery,
        on_exit=on_exit,
        forks=False,
    )


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
    try:
        with its:
            process = _launch(
                grant,
                entry="byenatos_sandbox.nursery:serve",
                config=msgspec.msgpack.encode(preload),
                code=code,
                egress=its,
                arena=-1,
                opened=opened or {},
                dial=None,
                sockets=(),
                templates=templates,
                nursery=None,
                on_exit=on_exit,
                forks=True,
            )
    except BaseException:
        ours.close()
        raise
    return Nursery(process, ours, grant.scratch_mib * grant.instances)


def _launch(
    grant: Grant,
    *,
    entry: str,
    config: bytes,
    code: Mapping[str, bytes] | None,
    egress: socket.socket | None,
    arena: int,
    opened: Mapping[str, int],
    dial: Callable[[], socket.socket] | None,
    sockets: Sequence[socket.socket],
    templates: Templates | None,
    nursery: Nursery | None,
    on_exit: Callable[[Process], None] | None,
    forks: bool,
) -> Process:
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
    if grant.plugin and code is None and not Path(grant.plugin).is_dir():
        raise LaunchError(f"{grant.name}: plugin: expected a folder, found none at {grant.plugin}")
    if wrong := _contradiction(grant, code):
        raise LaunchError(f"{grant.name}: {wrong}")
    if grant.required and (nowhere := hopeless(grant.required, lacks())):
        raise NotIsolated.of(grant.name, nowhere)
    try:
        with ExitStack() as undo:
            process = _Launch(grant, undo, loop, templates, nursery, opened, arena, sockets, forks=forks).go(
                entry=entry, config=config, code=code, egress=egress, dial=dial, on_exit=on_exit
            )
            undo.pop_all()
    except OSError as error:
        raise LaunchError(f"{grant.name}: cannot start a process: {error}") from error
    return process


class _Launch:
    """One launch: opens everything, ``undo`` holding what must be given back should a later step fail."""

    def __init__(
        self,
        grant: Grant,
        undo: ExitStack,
        loop: asyncio.AbstractEventLoop,
        templates: Templates | None,
        nursery: Nursery | None,
        opened: Mapping[str, int],
        arena: int,
        sockets: Sequence[socket.socket],
        *,
        forks: bool,
    ) -> None:
        self._grant = grant
        self._undo = undo
        self._loop = loop
        self._templates = templates
        self._nursery = nursery
        self._opened = opened
        self._sockets = sockets
        self._arena = arena
        self._files_mib = 0
        self._forks = forks
        self._states = _layers(grant) if nursery is None else nursery.process.layers
        self._layers = frozenset(name for name, state in self._states.items() if state == "on")

    def go(
        self,
        *,
        entry: str,
        config: bytes,
        code: Mapping[str, bytes] | None,
        egress: socket.socket | None,
        dial: Callable[[], socket.socket] | None,
        on_exit: Callable[[Process], None] | None,
    ) -> Process:
        grant, undo = self._grant, self._undo
        if grant.egress_socket and self._states["seccomp"] != "on":
            raise LaunchError(
                f"{grant.name}: egress_socket: expected the system call filter, which leads it to the broker; that is "
                f"{self._states['seccomp']}"
            )
        with ExitStack() as childs:  # the child's ends: ours to close in any case
            files = [self._open(path, childs) for path in grant.files]
            self._files_mib = sum(os.fstat(one).st_size for one in files) >> 20
            scratch = Path(tempfile.mkdtemp(prefix="byenatos-sandbox-", dir=grant.scratch_root or None))
            removal = undo.enter_context(ExitStack())
            removal.callback(scratch.rmdir)
            channel, listener = open_channel(scratch)
            undo.callback(channel.close)
            childs.callback(os.close, listener)
            if "mount-namespace" in self._layers:  # it brings its own, and one that is killed leaves none behind
                removal.close()
            pipes = undo.enter_context(ExitStack())
            stdout, stdout_end = _pipe(pipes, childs)
            stderr, stderr_end = _pipe(pipes, childs)
            stdin = self._nothing(childs)
            setup, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(setup.close)
            childs.callback(its.close)
            group = self._group()
            spec = self._spec(entry, config, code, str(scratch)).write()
            childs.callback(os.close, spec)
            given = {"spec": [spec], "channel": [listener], "egress": [egress.fileno()] if egress is not None else []}
            given["file"] = files
            given["socket"] = [one.fileno() for one in self._sockets]
            given["arena"] = [self._arena] if self._arena >= 0 else []
            names = [name for name, numbers in given.items() for _ in numbers]
            descriptors.send(setup, " ".join(names).encode(), [one for numbers in given.values() for one in numbers])
            template = self._template() if self._nursery is None else None
            capture = OutputCapture(
                self._loop, (stdout, stderr), OutputTail(grant.output_lines), kib_per_s=grant.output_kib_per_s
            )
            pipes.pop_all()
            undo.callback(capture.close)
            process = Process(
                grant,
                template=template,
                setup=setup,
                channel=channel,
                capture=capture,
                scratch=scratch,
                group=group,
                layers={"process": "on"} | self._states,
                dial=dial,
                on_exit=on_exit,
            )
            streams = [its.fileno(), stdin, stdout_end, stderr_end]
            if self._nursery is not None:
                descriptors.ask_who_sends(setup)  # before anything can be sent: what was sent earlier does not say it
                self._nursery.order(streams)
                process.expect_introduction(self._nursery.process)
            elif template is not None:
                template.order(self._order(group), streams, process.made)
            return process

    def _order(self, group: cgroup.Group | None) -> Order:
        wanted = [name for name in NAMESPACES if name in self._layers]
        if os.geteuid() == 0 and "user-namespace" in wanted:
            wanted.remove("user-namespace")  # entered last, as an ordinary user
        template = self._grant.template
        return Order(tuple(wanted), template == "one-shot", template == "plain", group)

    def _template(self) -> Template:
        if self._templates is not None and self._grant.template != "plain":
            template = self._templates.shared() if self._grant.template == "shared" else self._templates.take()
        else:
            template = Template()
        if self._grant.template != "shared":
            self._undo.callback(template.close)
        return template

    def _group(self) -> cgroup.Group | None:
        if "cgroup" not in self._layers or self._nursery is not None:
            return None
        grant = self._grant
        memory = grant.memory_mib and grant.memory_mib + grant.scratch_mib + grant.arena_mib + self._files_mib
        together = min(memory * grant.instances, max(memory, _share_of_machine_mib()))
        bounds = cgroup.Bounds(together, grant.tasks * grant.instances, grant.processors * grant.instances)
        return cgroup.name_group(bounds)

    def _spec(self, entry: str, config: bytes, code: Mapping[str, bytes] | None, scratch: str) -> Spec:
        grant = self._grant
        return Spec(
            entry=entry,
            config=config,
            limits=self._limits(),
            environment=_environment(grant),
            scratch=scratch,
            plugin=grant.plugin,
            code=dict(code) if code is not None and self._nursery is None else None,  # a template has shown it already
            imports=grant.imports,
            files=grant.files,
            sockets=len(self._sockets),
            devices=grant.devices,
            layers=self._layers,
            writable_code=grant.writable_code,
            scratch_mib=self._scratch_mib(),
            user=self._private_user(),
            forks=self._forks,
            egress_socket=grant.egress_socket,
            arena=grant.arena_mib << 20 if self._arena >= 0 else 0,
        )

    def _limits(self) -> Limits:
        grant = self._grant
        # device drivers map far more than they use
        bounded = grant.memory_mib and not grant.devices
        space = grant.memory_mib + grant.arena_mib + self._files_mib + _ROOM_MIB if bounded else 0
        tasks = grant.tasks * grant.instances
        open_files = grant.open_files + (grant.instances + _FOR_A_FORK if self._forks else 0)  # one for each instance
        return Limits(grant.memory_mib, open_files, grant.file_size_mib, tasks, space)

    def _scratch_mib(self) -> int:
        """How large the scratch folder is, or the one that it lies in."""
        return self._grant.scratch_mib * self._grant.instances if self._nursery is None else self._nursery.scratch_mib

    def _private_user(self) -> int:
        """Whom root becomes, where it can open what it needs beforehand."""
        if os.geteuid() or "mount-namespace" not in self._layers:
            return 0
        return _FIRST_USER + next(_users) % _USERS

    def _open(self, path: str, childs: ExitStack) -> int:
        # each process has a position of its own in the file, so one that is open already is opened once more
        place = f"/proc/self/fd/{self._opened[path]}" if path in self._opened else path
        # a pipe or a terminal would hold up the event loop, for good if nobody is at its other end
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        childs.callback(os.close, descriptor)
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, f"files: expected a regular file or a folder at {path}, found something else")
        if stat.S_ISDIR(mode) and self._nursery is not None:  # its template has it, by its name; see `child.py`
            return self._nothing(childs)
        return descriptor

    @staticmethod
    def _nothing(childs: ExitStack) -> int:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        childs.callback(os.close, descriptor)
        return descriptor


def _share_of_machine_mib() -> int:
    """The most memory that instances get together, if that is more than one of them gets."""
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _SHARE_OF_MACHINE) >> 20


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


def _layers(grant: Grant) -> dict[str, str]:
    """Say of each layer whether it is on, and if not, why."""
    states = dict.fromkeys(LAYERS, "on")
    states |= {name: f"missing: {why}" for name, why in missing().items()}
    if grant.template == "plain":
        states["pid-namespace"] = "off: a plain start makes no process 1"
    return states | dict.fromkeys(grant.without, "off: left out by the grant")


def _pipe(undo: ExitStack, childs: ExitStack) -> tuple[int, int]:
    """Return the end that we read, without waiting, and the end that the child writes, which waits."""
    ours, its = os.pipe()
    undo.callback(os.close, ours)
    childs.callback(os.close, its)
    os.set_blocking(ours, False)
    return ours, its


def _environment(grant: Grant) -> dict[str, str]:
    environment = {
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": str(grant.threads),
        "PATH": "/usr/bin:/bin",
        "LOGNAME": "driver",
        "USER": "driver",
    }
    if "TZ" in os.environ:
        environment["TZ"] = os.environ["TZ"]
    return environment | grant.environment
