"""One try at a process: all that it needs is opened, and given back should a later step fail."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from byenatos_sandbox import cgroup, descriptors
from byenatos_sandbox.allotment import Allotment
from byenatos_sandbox.capture import OutputCapture
from byenatos_sandbox.channel import open_channel
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.handover import Handover, nothing
from byenatos_sandbox.layers import LAYERS, missing
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.nurseries import Nursery
from byenatos_sandbox.output import OutputTail
from byenatos_sandbox.process import Process
from byenatos_sandbox.spec import Spec
from byenatos_sandbox.template import Order
from byenatos_sandbox.templates import Template, Templates
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["Attempt", "LaunchError"]

_FIRST_USER, _USERS = 61184, 4096  # systemd's range of dynamic users
_users = count(os.getpid())


class LaunchError(ByenatosError):
    """No process could be started; nothing is left of the attempt. The message says what failed and what to do."""


class Attempt:
    """One launch. ``undo`` holds what must be given back should a later step fail."""

    def __init__(
        self,
        grant: Grant,
        handover: Handover,
        undo: ExitStack,
        *,
        templates: Templates | None,
        nursery: Nursery | None = None,
        forks: bool = False,
    ) -> None:
        self._grant = grant
        self._handover = handover
        self._undo = undo
        self._templates = templates
        self._nursery = nursery
        self._forks = forks
        self._states = _layers(grant) if nursery is None else nursery.process.layers
        self._layers = frozenset(name for name, state in self._states.items() if state == "on")

    def make(self, *, dial: Callable[[], socket.socket] | None, on_exit: Callable[[Process], None] | None) -> Process:
        """Order the process and hand everything over.

        Raises:
            LaunchError: the grant asks for what the layers that are on do not give.
            OSError: something cannot be opened or made.
        """
        grant, undo = self._grant, self._undo
        if grant.egress_socket and self._states["seccomp"] != "on":
            raise LaunchError(
                f"{grant.name}: egress_socket: expected the system call filter, which leads it to the broker; that is "
                f"{self._states['seccomp']}"
            )
        with ExitStack() as childs:  # the child's ends: ours to close in any case
            # the template of a fork has the folders, by their names; see `child.py`
            files = self._handover.open_files(grant, childs, folders=self._nursery is None)
            allotment = Allotment(grant, sum(os.fstat(one).st_size for one in files) >> 20, self._forks)
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
            stdin = nothing(childs)
            setup, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(setup.close)
            childs.callback(its.close)
            group = self._group(allotment)
            spec = self._spec(allotment, str(scratch)).write()
            childs.callback(os.close, spec)
            self._handover.send(setup, spec=spec, channel=listener, files=files)
            template = self._template() if self._nursery is None else None
            capture = OutputCapture(
                asyncio.get_running_loop(),
                (stdout, stderr),
                OutputTail(grant.output_lines),
                kib_per_s=grant.output_kib_per_s,
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

    def _group(self, allotment: Allotment) -> cgroup.Group | None:
        if "cgroup" not in self._layers or self._nursery is not None:
            return None
        return cgroup.name_group(allotment.bounds)

    def _spec(self, allotment: Allotment, scratch: str) -> Spec:
        grant, handover = self._grant, self._handover
        code = handover.code if self._nursery is None else None  # a template has shown it already
        return Spec(
            entry=handover.entry,
            config=handover.config,
            limits=allotment.limits,
            environment=_environment(grant),
            scratch=scratch,
            plugin=grant.plugin,
            code=dict(code) if code is not None else None,
            imports=grant.imports,
            files=grant.files,
            sockets=len(handover.sockets),
            devices=grant.devices,
            layers=self._layers,
            writable_code=grant.writable_code,
            scratch_mib=self._scratch_mib(),
            user=self._private_user(),
            forks=self._forks,
            egress_socket=grant.egress_socket,
            arena=grant.arena_mib << 20 if handover.arena >= 0 else 0,
        )

    def _scratch_mib(self) -> int:
        """How large the scratch folder is, or the one that it lies in."""
        return self._grant.scratch_mib * self._grant.instances if self._nursery is None else self._nursery.scratch_mib

    def _private_user(self) -> int:
        """Whom root becomes, where it can open what it needs beforehand."""
        if os.geteuid() or "mount-namespace" not in self._layers:
            return 0
        return _FIRST_USER + next(_users) % _USERS


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
