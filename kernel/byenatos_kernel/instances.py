"""An instance: one model loaded by one driver in one process, and the streams that it answers.

Its life is the table :data:`TRANSITIONS`; nothing else changes ``state``. The *epoch* tells incarnations apart: it
never repeats within a kernel's life, and a late word of an old epoch finds no stream to speak to, because each instance
has a stream table of its own.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from byenatos_kernel.hearsay import bounded_failure, bounded_specification
from byenatos_kernel.link import SHORT_REPLY, DriverLink
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_kernel.streams import Stream
from byenatos_sandbox import Grant, isolation_level
from byenatos_sdk.protocol.control import InstanceInfo, LoadOrder
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, Overloaded, error_from_code
from byenatos_sdk.protocol.frames import UNREADABLE, Beat, Drain, DriverEvent, Imported, Load, Ready, encode
from byenatos_sdk.protocol.messages import (
    Failure,
    InstanceState,
    Logprobs,
    ModelHealthStatus,
    ModelSpecification,
)

__all__ = ["FORGIVEN", "TRANSITIONS", "Instance", "InstanceOwner"]

TRANSITIONS: dict[InstanceState, frozenset[InstanceState]] = {
    InstanceState.DISCOVERED: frozenset({InstanceState.VERIFIED, InstanceState.FAILED}),
    InstanceState.VERIFIED: frozenset({InstanceState.STARTING, InstanceState.FAILED}),
    InstanceState.STARTING: frozenset({InstanceState.READY, InstanceState.DRAINING, InstanceState.FAILED}),
    InstanceState.READY: frozenset({InstanceState.DEGRADED, InstanceState.DRAINING, InstanceState.FAILED}),
    InstanceState.DEGRADED: frozenset({InstanceState.READY, InstanceState.DRAINING, InstanceState.FAILED}),
    InstanceState.DRAINING: frozenset({InstanceState.RETIRED, InstanceState.FAILED}),
    InstanceState.RETIRED: frozenset(),
    InstanceState.FAILED: frozenset({InstanceState.QUARANTINED}),
    InstanceState.QUARANTINED: frozenset(),
}

MOST_STRAYS = 4096
"""Events without a stream between two sweeps: beats, replies, and what was on its way when streams were stopped."""

MOST_WASTED_S = 0.25
FORGIVEN = 0.1
"""The share of it that each sweep forgives, so that whoever takes a quarter of the kernel's time for nothing is ended
within seconds, and what was on its way when many streams were stopped at once ends nobody."""

log = logging.getLogger("byenatos")

SERVING = (InstanceState.READY, InstanceState.DEGRADED)

_decode_specification = msgspec.msgpack.Decoder(ModelSpecification).decode


class InstanceOwner(Protocol):
    """Who is told what an instance does; the driver manager."""

    def instance_changed(self, instance: "Instance") -> None:
        """The state is another one."""

    def instance_ready(self, instance: "Instance") -> None:
        """The model is loaded."""

    def instance_lost(self, instance: "Instance", reason: str) -> None:
        """The process is gone."""


class Instance(DriverLink):
    """One loaded model. ``deliver`` takes the frames of each read of its channel."""

    def __init__(
        self,
        plugin: PluginEntry,
        model: ModelEntry,
        grant: Grant,
        epoch: int,
        owner: InstanceOwner,
        deliver: Callable[["Instance", list[bytes]], None],
        wall_clock: Callable[[], float],
        nurseries: Nurseries | None = None,
    ) -> None:
        super().__init__(plugin, grant, nurseries)
        self.model = model
        self.epoch = epoch
        self.state = InstanceState.DISCOVERED
        self.detail = ""
        self.streams: dict[int, Stream] = {}
        self.listeners: dict[int, Callable[[DriverEvent], None]] = {}
        """Who hears what is said under a number that is no stream's."""
        self.tested = False
        self.specification: ModelSpecification | None = None
        self.error: ByenatosError | None = None
        self.restarts = 0
        self.loop_age_s = 0.0
        self.degraded_at = 0.0
        self.strays = 0
        self.wasted_s = 0.0
        self.health = ModelHealthStatus()
        self._imported = False
        self._order = LoadOrder(model.id)
        self._owner = owner
        self._deliver = deliver
        self._wall_clock = wall_clock
        self.since = wall_clock()

    @property
    def unmade(self) -> bool:
        """Whether the template failed that has loaded the model for it, so that there was never a process."""
        return self.preloaded and self.pid == 0

    @property
    def serving(self) -> bool:
        """Whether new streams may be sent to it."""
        return self.state in SERVING

    @property
    def recovered(self) -> bool:
        """Whether a degraded instance was heard of since and says that it is well."""
        heard = self.last_seen > self.degraded_at
        return self.state is InstanceState.DEGRADED and heard and self.health.status == "ok"

    @property
    def info(self) -> InstanceInfo:
        """The instance as clients see it."""
        return InstanceInfo(
            epoch=self.epoch,
            driver=self.manifest.plugin.id,
            model=self.model.id,
            state=self.state,
            pid=self.pid,
            streams=len(self.streams),
            restarts=self.restarts,
            since=self.since,
            detail=self.detail,
            specification=self.specification,
            last_output=self.last_output,
            template="warm" if self.preloaded else self.grant.template,
            layers=self.process.lacking if self.serving and self.process is not None else {},
            open=dict(self.process.open) if self.serving and self.process is not None else {},
        )

    def degrade(self, detail: str) -> None:
        """Note that it is not well; it goes on serving, and is ready again once it is heard of and healthy."""
        self.degraded_at = self._loop.time()
        if self.state is InstanceState.READY:
            self.advance(InstanceState.DEGRADED, detail)

    def advance(self, state: InstanceState, detail: str = "") -> None:
        """Go to another state; one that the table does not allow is a bug and raises ``AssertionError``."""
        assert state in TRANSITIONS[self.state], f"{self.grant.name}: {self.state} -> {state}"
        self.state = state
        self.detail = detail
        self.since = self._wall_clock()
        self._owner.instance_changed(self)

    def start(
        self,
        code: Mapping[str, bytes],
        file: ModelFile | None = None,
        *,
        cold: bool = False,
        sockets: Sequence[socket.socket] = (),
        background: bool = False,
    ) -> None:
        """Launch the process on the verified files and have it load the model; the owner hears of the outcome.

        ``file`` is that of the model. A ``cold`` one is not forked from a template that has loaded it, nor is one in
        the ``background``: it loads by itself, in threads of low priority. ``sockets`` are handed over.
        """
        model = self.model
        self._order = LoadOrder(
            model.id,
            str(file.path if file is not None else ""),
            model.settings,
            max_tokens=model.max_tokens,
            temperature=model.temperature,
            digest=file.digest if file is not None else "",
            declared=model.declared,
            strict=model.strict,
            background=background,
            files={str(one.path): one.digest for one in file.further} if file is not None else {},
        )
        self.advance(InstanceState.STARTING)
        self.launch(code, file=file, order=None if cold or background else self._order, sockets=sockets)
        self._welcomed.add_done_callback(self._after_handshake)

    def retire(self, grace_s: float) -> None:
        """Let the process finish what it has and exit; TERM and KILL follow after ``grace_s`` seconds."""
        if self.state in {InstanceState.STARTING, InstanceState.READY, InstanceState.DEGRADED}:
            self.advance(InstanceState.DRAINING)
        if self.process is None or self._gone:
            return
        self.dismiss()
        try:
            self.send(Drain())
        except Overloaded:
            self.fail("does not read its channel: it could not be told to stop")
            return
        self._loop.call_later(grace_s, self._overstay)

    # ---- private -----------------------------------------------------------------------------------------------

    def _overstay(self) -> None:
        if self.process is not None and not self._gone:
            self._stopping = self._loop.create_task(self.process.stop())

    def _after_handshake(self, welcomed: "asyncio.Future[None]") -> None:
        if welcomed.exception() is not None:
            return  # the loss of the process tells the rest
        self._say_how_isolated()
        self.expect("importing the driver", self.manifest.lifecycle.import_timeout_s)
        try:
            self.send(Load(), encode(self._order))
        except (OverflowError, TypeError) as error:
            self.error = InvalidRequest(f"the settings of {self.model.id} cannot be sent to its driver: {error}")
            self.fail(self.error.message)

    def _say_how_isolated(self) -> None:
        assert self.process is not None
        level = isolation_level(self.process.lacking, self.process.open)
        how = log.warning if self.process.open else log.info
        what = "".join(f"\n  {kind}: {got}" for kind, got in self.process.open.items())
        how("%s (epoch %d, pid %d) isolation %s%s", self.grant.name, self.epoch, self.pid, level, what)

    def _frames(self, frames: list[bytes]) -> None:
        self.last_seen = self._loop.time()
        try:
            self._deliver(self, frames)
        except UNREADABLE as error:
            self.fail(f"sent a frame that cannot be read: {error}")

    def _event(self, number: int, event: DriverEvent) -> None:
        self.event(number, event)

    def event(self, number: int, event: DriverEvent) -> None:
        """Take one event that belongs to no stream; whoever sends many is not a driver any more."""
        listener = self.listeners.get(number)
        if listener is not None:
            listener(event)
            return
        if not self.stray(1 + (len(event.tokens) >> 6 if isinstance(event, Logprobs) else 0)):
            return
        if type(event) is Beat:
            self.loop_age_s = event.loop_age_ms / 1000
        elif self.state is InstanceState.STARTING and number == 0 and isinstance(event, Imported | Ready | Failure):
            self._loading(event)
        else:
            super()._event(number, event)

    def stray(self, count: int = 1) -> bool:
        """Count events that bring no answer on; return whether they are still few."""
        self.strays += count
        if self.strays > MOST_STRAYS:
            self.fail(f"sent more than {MOST_STRAYS} events in a moment that belong to no stream, or say nothing")
            return False
        return True

    def waste(self, time_s: float) -> None:
        """Count the kernel's time that went into what brought no answer on; the sweep forgives it little by little."""
        self.wasted_s += time_s
        if self.wasted_s > MOST_WASTED_S:
            self.fail("sent so much that belongs to no stream that the kernel had little time for others")

    def _loading(self, event: Imported | Ready | Failure) -> None:
        if isinstance(event, Imported):
            if self._imported:
                return  # the time for loading is given once
            self._imported = True
            self.expect("loading the model", self.manifest.lifecycle.start_timeout_s)
        elif isinstance(event, Ready):
            self.reached()
            if len(event.body) > SHORT_REPLY:
                self.fail(f"described its model in {len(event.body)} bytes, of {SHORT_REPLY} that it may have")
                return
            found = bounded_specification(_decode_specification(event.body))
            # under another name it would stand for somebody else's in whatever lists models
            self.specification = msgspec.structs.replace(found, id=self.model.id, driver=self.manifest.plugin.id)
            self.advance(InstanceState.READY)
            self._owner.instance_ready(self)
        else:
            said = bounded_failure(event)
            self.error = error_from_code(said.code, said.message)
            what = "start" if self.manifest.plugin.kind == "front" else "load the model"
            self.fail(f"could not {what}: {self.error.message}")

    def _lost(self, reason: str) -> None:
        if self.process is not None and self.process.refusal is not None:
            self.error = self.process.refusal
        if self.state is InstanceState.DRAINING and self._expected_exit:
            self.advance(InstanceState.RETIRED, reason)
        elif self.state not in {InstanceState.FAILED, InstanceState.RETIRED}:
            self.advance(InstanceState.FAILED, reason)
        self._owner.instance_lost(self, reason)
