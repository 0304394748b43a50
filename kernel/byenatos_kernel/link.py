"""The kernel's link to one driver process: launch, handshake, calls, and the one moment when it is lost.

A link is used for a probe as it is; :class:`~byenatos_kernel.instances.Instance` adds a model and its streams. Whatever
ends a link (exit, a closed channel, a broken protocol, a missed deadline) ends in exactly one call of ``_lost``, after
the process is gone and all that it had written was taken in.
"""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from byenatos_kernel.arena import Arena
from byenatos_kernel.channel import Channel, ChannelFull
from byenatos_kernel.egress_ports import EgressPort
from byenatos_kernel.link_calls import LinkCalls
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import PluginEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_sandbox import Grant, LaunchError, Nursery, Process, launch
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.errors import DriverCrashed, Overloaded
from byenatos_sdk.protocol.frames import (
    MOST_EVENTS,
    UNREADABLE,
    Drain,
    DriverEvent,
    DriverHeader,
    DriverHello,
    Refused,
    Reply,
    Stop,
    Welcome,
    count_events,
    decode_driver_events,
    join_driver_frame,
)
from byenatos_sdk.protocol.messages import Failure
from byenatos_sdk.protocol.versions import DRIVER_FEATURES, negotiate
from byenatos_sdk.runtime_config import PreloadConfig, RuntimeConfig, encode_config

__all__ = ["HEARTBEAT_S", "SHORT_REPLY", "DriverLink", "quoted"]

HEARTBEAT_S = 0.1
HELLO_TIMEOUT_S = 10.0
CLOSED_GRACE_S = 1.0
SHORT_REPLY = 64 << 10
"""Bytes of an answer that the kernel reads itself: a few bytes can stand for many of its memory, and for a while of its
time. What it passes on unread may have :data:`~byenatos_sdk.protocol.frames.MAX_REPLY`."""
MOST_HEARD = 4 << 20
"""Bytes of all that is heard on a link that is no instance's."""
_ENTRY = "byenatos_sdk.runtime:run"
_URGENT = frozenset((Stop, Drain))


class DriverLink:
    """One process of a driver, from launch to loss. Use it from the event loop's thread."""

    def __init__(self, plugin: PluginEntry, grant: Grant, nurseries: Nurseries | None = None) -> None:
        assert plugin.manifest is not None
        self.manifest = plugin.manifest
        self.plugin = plugin
        self.grant = grant
        self._nurseries = nurseries
        self._nursery: Nursery | None = None
        self.process: Process | None = None
        self.channel: Channel | None = None
        self.port: EgressPort | None = None
        self.arena: Arena | None = None
        self.preloaded = False  # whether it is forked from a template that has carried out its order
        self.last_seen = 0.0
        self.reason = ""
        self._token = os.urandom(16).hex()  # not `secrets`: it loads OpenSSL, 3.5 MB
        self._loop = asyncio.get_running_loop()
        self._calls = LinkCalls(grant.name, self.send, self.fail)
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._heard_bytes = 0
        self._gone = False
        self._expected_exit = False

    @property
    def pid(self) -> int:
        """The process id, 0 before the launch."""
        return self.process.pid if self.process else 0

    @property
    def last_output(self) -> tuple[str, ...]:
        """The last lines that the process printed."""
        return self.process.output() if self.process else ()

    def launch(
        self,
        code: Mapping[str, bytes],
        *,
        file: ModelFile | None = None,
        order: LoadOrder | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """Start the process on ``code``, the plugin's verified files, with the open ``file`` of its model.

        ``sockets`` are handed over.

        With an ``order`` that the process will get, it is forked from a template that has carried it out already, where
        there can be one.

        Raises:
            LaunchError: the process cannot be started.
        """
        plugin = self.manifest.plugin
        opened = file.opened if file is not None else {}
        config = RuntimeConfig(
            self._token,
            plugin.id,
            plugin.version,
            str(self.plugin.stored),
            plugin.entry,
            HEARTBEAT_S,
            self.grant.files,
            tuple(map(str, self.plugin.imports)),
            len(sockets),
        )
        try:
            if self._nurseries is not None:
                preload = self._preload(config, order)
                self._nursery = self._nurseries.take(self.plugin, self.grant, code, opened, preload)
                self.preloaded = self._nursery is not None and preload != b""
            self.process = launch(
                self.grant,
                entry=_ENTRY,
                config=encode_config(config),
                code=code,
                egress=self.port.driver_end if self.port is not None else None,
                arena=self._open_arena(),
                opened=opened,
                dial=self.port.dial if self.port is not None else None,
                sockets=sockets,
                templates=self._nurseries.templates if self._nurseries is not None else None,
                nursery=self._nursery,
                on_exit=self._exited,
            )
        finally:
            if self.port is not None:
                self.port.launched()
                if self.process is None:
                    self.port.close()
            if self.process is None:
                self._give_back(made=True)
        self.channel = Channel(self.process.channel, self._frames, self._closed)
        self.last_seen = self._loop.time()
        self.expect("the handshake", HELLO_TIMEOUT_S + self._ahead_s())

    def _open_arena(self) -> int:
        """Make the memory that is shared with the process, if it is granted any; its pages are taken in a thread."""
        if not self.grant.arena_mib:
            return -1
        try:
            self.arena = Arena(self.grant.arena_mib)
        except OSError as error:
            raise LaunchError(f"{self.grant.name}: no memory to share with it: {error}") from error
        self._loop.run_in_executor(None, _fill, self.arena)
        return self.arena.descriptor

    def _preload(self, config: RuntimeConfig, order: LoadOrder | None) -> bytes:
        if order is None or not self.manifest.lifecycle.preload_model:
            return b""
        try:
            return encode_config(PreloadConfig(msgspec.structs.replace(config, token=""), order))
        except (OverflowError, TypeError):
            return b""  # nor can the order be sent to the process, which is told to whoever asked for it

    def _ahead_s(self) -> float:
        """How long the template of the process may take for what it does ahead, at most."""
        lifecycle = self.manifest.lifecycle
        imports_s = lifecycle.import_timeout_s if self._nursery is not None else 0
        return imports_s + (lifecycle.start_timeout_s if self.preloaded else 0)

    def _give_back(self, *, made: bool) -> None:
        if self._nursery is not None and self._nurseries is not None:
            self._nurseries.give_back(self._nursery, made=made)
            self._nursery = None

    async def welcomed(self) -> None:
        """Wait for the handshake; raises ``DriverCrashed`` if it fails, ``NotIsolated`` if the process may not run."""
        await asyncio.shield(self._welcomed)

    def expect(self, what: str, timeout_s: float) -> None:
        """Kill the process unless :meth:`reached` is called within ``timeout_s`` seconds."""
        self.reached()
        self._deadline = self._loop.call_later(timeout_s, self.fail, f"{what} took longer than {timeout_s:g} s")

    def reached(self) -> None:
        """The deadline set by :meth:`expect` was met."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def fail(self, reason: str) -> None:
        """Kill the process for ``reason``; the loss follows when it is gone."""
        if not self._gone and not self.reason:
            self.reason = reason
        self.reached()
        if self.process:
            self.process.kill()

    def dismiss(self) -> None:
        """From here on an exit is expected and no crash."""
        self._expected_exit = True

    def send(self, header: DriverHeader, body: bytes | memoryview = b"", *, hold: bool = False) -> None:
        """Send one frame; with ``hold`` only once :meth:`flush` is called.

        Raises:
            Overloaded: the driver does not read and its queue is full.
        """
        if self.channel is None:
            return
        try:
            urgent = type(header) in _URGENT
            self.channel.send(join_driver_frame(header, body), hold=hold, urgent=urgent)
        except ChannelFull:
            raise Overloaded(f"{self.grant.name} does not read its requests; its queue is full") from None

    def flush(self) -> None:
        """Write what was sent and held."""
        if self.channel is not None:
            self.channel.flush()

    async def call(
        self,
        method: str,
        params: msgspec.Struct | bytes | None = None,
        *,
        timeout_s: float | None = 10.0,
        most: int = SHORT_REPLY,
    ) -> bytes:
        """Call a driver method and return the reply's body, of at most ``most`` bytes.

        A call that is not waited for any longer is stopped at the driver.

        Raises:
            DriverCrashed: the process is gone, or does not answer in time.
            Unavailable: the answer is longer.
            ByenatosError: the driver's own error.
        """
        if self._gone:
            raise DriverCrashed(f"{self.grant.name} {self.reason}")
        return await self._calls.make(method, params, timeout_s, most)

    # ---- what subclasses override ------------------------------------------------------------------------------

    def _frames(self, frames: list[bytes]) -> None:
        """Take the frames of one read."""
        self.last_seen = self._loop.time()
        self._heard_bytes += sum(map(len, frames))
        if self._heard_bytes > MOST_HEARD:
            self.fail(f"sent more than {MOST_HEARD >> 20} MiB, and is asked for a few words only")
            return
        try:
            for frame in frames:
                for number, event in _decode(frame):
                    self._event(number, event)
        except UNREADABLE as error:
            self.fail(f"sent a frame that cannot be read: {error}")

    def _event(self, number: int, event: DriverEvent) -> None:
        """Take one event that is not about a stream."""
        if isinstance(event, Reply | Failure):
            self._calls.answered(number, event)
        elif isinstance(event, DriverHello) and not self._welcomed.done():
            self._greet(event)

    def _lost(self, reason: str) -> None:
        """The process is gone. Called once."""

    # ---- private -----------------------------------------------------------------------------------------------

    def _greet(self, hello: DriverHello) -> None:
        self.reached()
        if hello.token != self._token:  # one try per process and token: there is nothing to time
            self.send(Refused("the token is not the one that this process was given"))
            self.fail("presented a wrong token in the handshake")
            return
        agreed = negotiate(hello.majors, hello.features, own_features=DRIVER_FEATURES)
        if agreed is None:
            sentence = f"this driver speaks protocol {list(hello.majors)}, the kernel another; install a matching SDK"
            self.send(Refused(sentence))
            self.fail(sentence)
            return
        self.send(Welcome(agreed[0], agreed[1], HEARTBEAT_S))
        self._welcomed.set_result(None)

    def _closed(self, reason: str) -> None:
        if self.channel is not None and self.channel.violated:
            self.fail(reason)
        elif not self._gone:
            self._loop.call_later(CLOSED_GRACE_S, self._still_there, reason)

    def _still_there(self, reason: str) -> None:
        if not self._gone:
            self.fail(reason)

    def _exited(self, process: Process) -> None:
        if self.channel is not None:
            self.channel.drain_input()
            self.channel.close()
        if self.port is not None:
            self.port.close()
        if self.arena is not None:
            self.arena.close()
        self._gone = True
        self.reached()
        exit_ = process.exited.result()
        reason = self.reason or ("stopped" if self._expected_exit else exit_.describe())
        self.reason = reason
        error = process.refusal or DriverCrashed(f"{self.grant.name} {reason}{quoted(process.output())}")
        if not self._welcomed.done():
            self._welcomed.set_exception(error)
            self._welcomed.exception()  # whoever launched may not be waiting
        self._calls.fail(error)
        process.close()
        self._give_back(made=process.pid != 0)
        self._lost(reason)


def _fill(arena: Arena) -> None:
    with suppress(OSError):  # then its pages are taken one by one, and whoever copies hears that there are none
        arena.fill()


def quoted(lines: Sequence[str]) -> str:
    """What a driver printed, as it is shown behind a sentence about it."""
    return "".join(f"\n  | {line}" for line in lines)


def _decode(frame: bytes) -> list[tuple[int, DriverEvent]]:
    if count_events(frame) > MOST_EVENTS:
        raise msgspec.DecodeError(f"expected at most {MOST_EVENTS} events in a frame, found {count_events(frame)}")
    return decode_driver_events(frame)
