"""Where attacks are made: what they are after, the sandbox that they are in, and the plain process of the control."""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from attacks.corpus import ATTACKS, NOT_STOPPED_YET
from attacks.templates import MOVED_ON

from byenatos_kernel.arena import Arena
from byenatos_kernel.channel import Channel
from byenatos_sandbox import Grant, Nursery, Templates, capabilities, launch
from byenatos_sandbox.broker.port import MOST_LINES
from byenatos_sandbox.layers import missing
from byenatos_sandbox.parts import missing_parts
from byenatos_sandbox.seccomp import EGRESS_SOCKET

__all__ = ["NOT_STOPPED_HERE", "Outcome", "Outside", "Prey", "grant_for", "inside"]

NOT_STOPPED_HERE = {
    *NOT_STOPPED_YET,
    *(name for name, attack in ATTACKS.items() if attack.stopped_by == ("cgroup",) and "cgroup" in missing()),
    *({"sends_a_descriptor_along"} if "refuse-descriptors" in missing_parts() else ()),
}
"""Attacks that work in today's sandbox, or on this machine because it lacks what stops them."""

HERE = Path(__file__).parent
CEILING_S = 60
_GRACE_S = 0.2
_HEARD = 1 << 20
_MEMORY_MIB, _SCRATCH_MIB, _OPEN_FILES, _FILE_MIB = 192, 64, 128, 64
_ALIVE = b"alive\n"


class Outcome:
    """``worked`` is what an attack got, ``None`` if it got nothing; ``ended`` how its process did.

    ``value`` is what it said it got, whether that is worth anything or not; ``broke`` what was wrong with the attack
    itself; ``grown_mib`` how much more memory the launching process had at the end, ``left`` what there was of scratch
    folders.
    """

    def __init__(self, said: bytes = b"", ended: str = "", grown_mib: float = 0) -> None:
        lines = [line for line in said.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
        told = json.loads(lines[-1]) if lines else {}
        self.worked: str | None = told.get("worked")
        self.value = self.worked
        self.broke: str | None = told.get("broke")
        self.ended = f"{ended}, {told.get('failed', 'without a word')}"
        self.grown_mib = grown_mib
        self.left: list[str] = []


class Prey:
    """What is outside: files of others, sockets that listen, a process, a descriptor and memory of the kernel's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()
        self._memory = ctypes.create_string_buffer(b"memory")
        self._batch: subprocess.Popen[bytes] | None = None
        self.shared = Arena(1)
        self.orders = f"orders-{secrets.token_hex(16)}"
        folder.mkdir()
        (folder.parent / "neighbour").mkdir()
        self.granted_folder = folder.parent / "shelf"
        self.granted_folder.mkdir()
        self.secret, self.victim, self.granted = folder / "secret", folder / "victim", folder / "granted"
        self.neighbour, self.link = folder.parent / "neighbour" / "notes", folder / "link"
        self.link.symlink_to("where it leads")
        self._names = {"secret", "victim", "granted", "socket", "datagrams", "link"}
        # as long as the address that leads to the broker, in a folder whose name does not grow with this test's
        self._short = Path(f"/tmp/b{secrets.token_hex(5)}")
        self._short_datagrams = self._short.with_suffix(".d").with_stem(self._short.stem[:-2])
        self._listening: dict[str, socket.socket] = {
            "tcp": self._open.enter_context(socket.create_server(("127.0.0.1", 0))),
            "udp": self._open.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
            "path": self._open.enter_context(socket.socket(socket.AF_UNIX)),
            "abstract": self._open.enter_context(socket.socket(socket.AF_UNIX)),
            "datagrams": self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
            "short": self._open.enter_context(socket.socket(socket.AF_UNIX)),
            "short abstract": self._open.enter_context(socket.socket(socket.AF_UNIX)),
            "short datagrams": self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
        }
        with contextlib.suppress(OSError):
            self._listening["tcp6"] = self._open.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        self._listening["udp"].bind(("127.0.0.1", 0))
        self._listening["path"].bind(str(folder / "socket"))
        self._listening["abstract"].bind(f"\0byenatos-escape-{os.getpid()}")
        self._listening["datagrams"].bind(str(folder / "datagrams"))
        self._listening["short"].bind(str(self._short))
        self._listening["short abstract"].bind(f"\0{self._short.name:.15}")
        self._listening["short datagrams"].bind(str(self._short_datagrams))
        for path in (self._short, self._short_datagrams):
            self._open.callback(path.unlink)
            assert len(str(path)) == len(EGRESS_SOCKET)
        for name in ("path", "abstract", "short", "short abstract"):
            self._listening[name].listen()
        self.renew()
        self.left_open = os.open(self.secret, os.O_RDONLY)
        os.set_inheritable(self.left_open, True)
        self._open.callback(os.close, self.left_open)

    def renew(self) -> None:
        """Make good what an attack of the control has changed."""
        for path, content in (
            (self.granted, "to read"),
            (self.secret, "the secret"),
            (self.victim, "untouched"),
            (self.neighbour, "another's"),
        ):
            path.unlink(missing_ok=True)
            path.write_text(content)
            path.chmod(0o644)
        for name in set(os.listdir(self._folder)) - self._names:
            one = self._folder / name
            one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()
        if self._batch is None or self._batch.poll() is not None:
            # without capabilities, as the attacks are: root with them is not to be touched by root without
            self._batch = subprocess.Popen(["/bin/sleep", "1000"], preexec_fn=capabilities.drop)  # noqa: PLW1509 - no threads
        os.sched_setscheduler(self._batch.pid, os.SCHED_BATCH, os.sched_param(0))
        self._memory.value = b"memory"
        for one in self._heard():
            one.setblocking(False)
            one.recv(4096) if one.type == socket.SOCK_DGRAM else one.accept()[0].close()

    def describe(self) -> dict[str, Any]:
        """What an attack is told."""
        assert self._batch is not None
        tcp6 = self._listening.get("tcp6")
        return {
            "secret": str(self.secret),
            "victim": str(self.victim),
            "granted": str(self.granted),
            "granted_folder": str(self.granted_folder),
            "neighbour": str(self.neighbour),
            "neighbours_folder": str(self.neighbour.parent),
            "link": str(self.link),
            "folder": str(self._folder),
            "batch": self._batch.pid,
            "socket": str(self._folder / "socket"),
            "datagrams": str(self._folder / "datagrams"),
            "abstract": f"byenatos-escape-{os.getpid()}",
            "short_socket": str(self._short),
            "short_datagrams": str(self._short_datagrams),
            "short_abstract": f"{self._short.name:.15}",
            "port": self._listening["tcp"].getsockname()[1],
            "port6": tcp6.getsockname()[1] if tcp6 else 9,
            "udp": self._listening["udp"].getsockname()[1],
            "pid": os.getpid(),
            "parent": os.getpid(),
            "group": os.getpgrp(),
            "user": os.getuid(),
            "hostname": os.uname().nodename,
            "address": ctypes.addressof(self._memory),
            "descriptor": self.left_open,
            "left_open": "the secret",
            "orders_moved_on": self.orders.encode().translate(MOVED_ON).decode("latin-1"),
            "memory_mib": _MEMORY_MIB,
            "scratch_mib": _SCRATCH_MIB,
            "open_files": _OPEN_FILES,
            "file_mib": _FILE_MIB,
            "folders_may_stay": 0,
        }

    def harm(self) -> list[str]:
        """What an attack has done to it."""
        found = []
        for path, content in ((self.granted, "to read"), (self.secret, "the secret"), (self.victim, "untouched")):
            if not path.exists() or path.read_text() != content:
                found.append(f"{path.name} is not what it was")
            elif path.stat().st_mode & 0o7777 != 0o644:
                found.append(f"{path.name} has another mode")
        if (names := set(os.listdir(self._folder))) != self._names:
            found.append(f"files outside: {names ^ self._names}")
        if planted := os.listdir(self.granted_folder):
            found.append(f"files in the granted folder: {planted}")
        if self.neighbour.read_text() != "another's":
            found.append("the neighbour's notes are not what they were")
        assert self._batch is not None
        if self._batch.poll() is not None:
            found.append("the neighbour is dead")
        elif os.sched_getscheduler(self._batch.pid) != os.SCHED_BATCH:
            found.append("the neighbour is scheduled otherwise")
        if self._memory.value != b"memory":
            found.append("the kernel's memory was written to")
        found += [f"somebody spoke to {one.getsockname()!r}" for one in self._heard()]
        return found

    def close(self) -> None:
        if self._batch is not None:
            self._batch.kill()
            self._batch.wait()
        self._open.close()

    def _heard(self) -> list[socket.socket]:
        return select.select(list(self._listening.values()), [], [], 0)[0]


def grant_for(name: str, prey: Prey, scratch: Path, **fields: Any) -> Grant:
    """What the process of an attack is granted."""
    return Grant(
        f"attack/{name}",
        plugin=str(HERE),
        files=(str(prey.granted), str(prey.granted_folder)),
        memory_mib=_MEMORY_MIB,
        scratch_mib=_SCRATCH_MIB,
        open_files=_OPEN_FILES,
        file_size_mib=_FILE_MIB,
        scratch_root=str(scratch),
        arena_mib=1,
        **fields,
    )


async def inside(
    name: str,
    prey: Prey,
    scratch: Path,
    *,
    without: frozenset[str] = frozenset(),
    egress_socket: bool = False,
    templates: Templates | None = None,
    nursery: Nursery | None = None,
) -> Outcome:
    """Make an attack inside a sandbox that has all layers but those named.

    It is made from a template of its own, or from the shared one of ``templates``, or forked from ``nursery``.
    """
    template = "shared" if templates is not None else "one-shot"
    grant = grant_for(name, prey, scratch, without=without, template=template, egress_socket=egress_socket)
    broker = Broker()
    before = _resident_mib()
    category = ATTACKS[name].category.replace(" ", "_")
    config = json.dumps({"attack": name, "category": category, "prey": prey.describe()}).encode()
    with socket.create_server(("127.0.0.1", 0)) as handed:  # as a front is given one, of the machine's own network
        process = launch(
            grant,
            entry="attacks.driver:run",
            config=config,
            arena=prey.shared.descriptor,
            dial=broker.dial,
            sockets=[handed],
            templates=templates,
            nursery=nursery,
        )
    loop = asyncio.get_running_loop()
    survived, cut_off = False, ""
    try:
        async with asyncio.timeout(CEILING_S):
            began = b""
            with contextlib.suppress(ConnectionResetError):
                while began != _ALIVE and (data := await loop.sock_recv(process.channel, len(_ALIVE) - len(began))):
                    began += data
            if began != _ALIVE:
                end = await process.exited
                raise AssertionError(f"{name} never began: {end.describe()}: {process.output()}")
            if ATTACKS[name].flooding:
                said, cut_off = b"", await _as_the_kernel(process.channel, process.exited)
            else:
                said = await _listen(process.channel)
            end = await process.stop(_GRACE_S)
            if ATTACKS[name].lasting:
                survived = await _answers(process.channel)
    finally:
        process.close()
        await process.exited
        broker.close()
    for thread in threading.enumerate():
        if thread.name == "byenatos-scratch":  # which removes what an attack has left in its scratch folder
            thread.join(CEILING_S)
    outcome = Outcome(said, end.describe(), _resident_mib() - before)
    outcome.left = sorted(os.listdir(scratch))
    if ATTACKS[name].lasting:
        outcome.worked = outcome.worked and ("it goes on" if survived else None)
    if ATTACKS[name].flooding:
        outcome.worked = None if cut_off else "it was never cut off"
        outcome.ended += f", cut off: {cut_off}"
    return outcome


class Broker:
    """Takes what is sent to it; the streams that it hands out are counted as the true one counts them."""

    def __init__(self) -> None:
        self._open: dict[socket.socket, None] = {}

    def dial(self) -> socket.socket:
        ours, its = socket.socketpair()
        ours.setblocking(False)
        if len(self._open) >= MOST_LINES:
            ours.close()
            return its
        self._open[ours] = None
        asyncio.get_running_loop().add_reader(ours, self._read, ours)
        return its

    def close(self) -> None:
        for one in list(self._open):
            self._end(one)

    def _read(self, one: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(4096)
        if not data:
            self._end(one)

    def _end(self, one: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(one)
        del self._open[one]
        one.close()


class Outside:
    """A plain process that makes attacks with no sandbox around them; see ``outside.py``."""

    def __init__(self, prey: Prey) -> None:
        self._prey = prey
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.set_inheritable(its.fileno(), True)
        # what a sandbox must not hand on is handed on here: every inheritable descriptor and the whole environment
        self._server = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "outside.py"), str(its.fileno())],
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("BYENATOS_TEST_CONTROL_STDERR") else subprocess.DEVNULL,
        )
        its.close()

    async def make(self, name: str, scratch: Path) -> Outcome:
        """Make an attack; it ends before this returns."""
        loop = asyncio.get_running_loop()
        ours, its = socket.socketpair()
        ours.setblocking(False)
        prey = self._prey.describe() | {"parent": self._server.pid, "folders_may_stay": 1}
        order = {"attack": name, "prey": prey, "scratch": str(scratch), "hold": self._prey.orders}
        with ours:
            with its:
                socket.send_fds(self._control, [json.dumps(order).encode()], [its.fileno()])
            pid = int(self._control.recv(100))
            async with asyncio.timeout(CEILING_S):
                try:
                    said = await _listen(ours)
                    if ATTACKS[name].lasting:
                        os.killpg(pid, signal.SIGTERM)
                        survived = await _answers(ours)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
            assert await loop.run_in_executor(None, self._control.recv, 100) == b"ended"
        outcome = Outcome(said)
        if ATTACKS[name].lasting:
            outcome.worked = outcome.worked and ("it goes on" if survived else None)
        return outcome

    def close(self) -> None:
        self._control.close()
        self._server.wait(CEILING_S)


async def _listen(wire: socket.socket) -> bytes:
    """Everything that is said, as a careless reader takes it, until the outcome or the end; only the last is kept."""
    heard = b""
    while not heard.endswith(b"}\n"):
        data = await _received(wire)
        if not data:
            break
        heard = (heard + data)[-_HEARD:] if len(data) < _HEARD else data
    return heard


async def _answers(wire: socket.socket) -> bool:
    """Whether anybody still holds the other end and answers."""
    with contextlib.suppress(OSError):
        wire.send(b"?")
    while data := await _received(wire):
        if data.endswith(b"!"):
            return True
    return False


async def _received(wire: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(wire, 1 << 18)
    except ConnectionResetError:
        return b""


async def _as_the_kernel(wire: socket.socket, exited: "asyncio.Future[Any]") -> str:
    """Hear a driver as the kernel does; return why it was cut off, if it was."""
    closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    channel = Channel(wire, lambda _: None, closed.set_result)
    try:
        await asyncio.wait({closed, exited}, return_when=asyncio.FIRST_COMPLETED)
        if not closed.done():
            channel.drain_input()
        return closed.result() if closed.done() and channel.violated else ""
    finally:
        channel.close()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)
