"""The control plane: the methods of ``byenatos_sdk.protocol.control``, each a few lines over the managers."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from byenatos_kernel import __version__
from byenatos_kernel.clients import ClientState
from byenatos_kernel.failover import failure_of
from byenatos_kernel.inquiries import INQUIRIES, Inquiries
from byenatos_kernel.instances import Instance
from byenatos_kernel.rates import Rates
from byenatos_kernel.routes import Slot
from byenatos_kernel.turns import check_session
from byenatos_sdk.protocol.control import (
    EVENT_FEATURES,
    METHODS,
    Empty,
    Event,
    KeepOrder,
    KernelStatus,
    ModelInfo,
    Named,
    SecretInfo,
    SessionState,
    SessionTranscript,
    SlotInfo,
    SwapAdvanced,
    TriggerInfo,
    UsageReport,
)
from byenatos_sdk.protocol.errors import ByenatosError, Cancelled, ClientTooSlow, InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.frames import UNREADABLE, Call, Notice, Reply, encode
from byenatos_sdk.protocol.messages import Failure, SessionInfo, SwapEvent, SwapRequest

if TYPE_CHECKING:
    from byenatos_kernel.kernel import Kernel

__all__ = ["Control"]

log = logging.getLogger("byenatos")

CALLS_PER_CLIENT = 256
NOTICES_WAITING = 1000

_DECODERS = {name: msgspec.msgpack.Decoder(params) for name, (params, _) in METHODS.items()}


class Control:
    """Answers control calls; ``events`` calls stay open as subscriptions."""

    def __init__(self, kernel: "Kernel", warnings: tuple[str, ...]) -> None:
        self._kernel = kernel
        self._bus = kernel.bus
        self._drivers = kernel.drivers
        self._registry = kernel.registry
        self._warnings = warnings
        self._inquiries = Inquiries(kernel.routes, kernel.sessions)
        self._rates = Rates(lambda: kernel.fronts.clients)
        self._started = time.monotonic()
        self._running: dict[tuple[ClientState, int], asyncio.Task[None]] = {}
        self._subscribers: set[tuple[ClientState, int]] = set()
        self._methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "status": self._status,
            "models": self._models,
            "slots": self._slots,
            "load": kernel.supply.load,
            "refresh_models": kernel.offers.refresh,
            "unload": self._unload,
            "model_reload": kernel.renewals.reload,
            "driver_upgrade": kernel.renewals.upgrade,
            "driver_rollback": kernel.renewals.roll_back,
            "preload": kernel.preloads.preload,
            "usage": self._usage,
            "swap_back": self._swap_back,
            "swap_cancel": self._swap_cancel,
            "swaps": self._history,
            "triggers": self._triggers,
            "sessions": self._list_sessions,
            "session": self._session,
            "session_remove": self._session_remove,
            "session_move": kernel.session_homes.move,
            "session_prefill": self._session_prefill,
            "session_hibernate": self._session_hibernate,
            "session_wake": self._session_wake,
            "secrets": self._secrets,
            "client_admit": self._client_admit,
            "shutdown": self._shutdown,
        }

    def call(self, client: ClientState, header: Call, body: bytes) -> None:
        """Start a call; it is answered by one reply or failure. Raises ``InvalidRequest`` on a number in use."""
        number = header.id
        if number in client.streams or number in client.calls:
            raise InvalidRequest(f"call {number} is already running on this connection")
        inquiry = header.method in INQUIRIES
        decoder = _DECODERS.get(header.method)
        try:
            if decoder is None:
                raise NotFound(f"no method {header.method!r:.200}; there is {', '.join(METHODS)}")
            if len(client.calls) >= CALLS_PER_CLIENT:
                raise InvalidRequest(f"{CALLS_PER_CLIENT} calls are running on this connection already")
            params = body if inquiry else decoder.decode(body) if body else Empty()
        except (ByenatosError, *UNREADABLE) as error:
            code = error.code if isinstance(error, ByenatosError) else "invalid_request"
            self._bus.tell(client, number, Failure(code, str(error)))
            return
        client.calls[number] = header.method
        if header.method == "events":
            self._subscribers.add((client, number))
            return
        task = asyncio.get_running_loop().create_task(self._answer(client, number, header.method, params))
        self._running[client, number] = task
        task.add_done_callback(lambda done: self._done(client, number, done))

    def cancel(self, client: ClientState, number: int) -> None:
        """End a subscription, or stop waiting for a call; what the call began goes on."""
        if client.calls.pop(number, None) is None:
            return
        self._subscribers.discard((client, number))
        task = self._running.pop((client, number), None)
        if task is not None:
            task.cancel()
        self._bus.tell(client, number, Failure(Cancelled.code, "cancelled by the client"))

    def gone(self, client: ClientState) -> None:
        """Forget a client's calls."""
        for number in list(client.calls):
            self._subscribers.discard((client, number))
            task = self._running.pop((client, number), None)
            if task is not None:
                task.cancel()
        client.calls.clear()

    def publish(self, event: Event) -> None:
        """Send an event to every subscriber that understands it; one that does not keep up is told so and dropped."""
        if not self._subscribers:
            return
        notice = Notice(encode(event))
        feature = EVENT_FEATURES.get(type(event))
        for client, number in list(self._subscribers):
            if feature is not None and feature not in client.features:
                continue
            if len(client.control) > NOTICES_WAITING:
                self._subscribers.discard((client, number))
                client.calls.pop(number, None)
                text = f"{NOTICES_WAITING} events were waiting to be read; subscribe again"
                self._bus.tell(client, number, Failure(ClientTooSlow.code, text))
            else:
                self._bus.tell(client, number, notice)

    async def _answer(self, client: ClientState, number: int, method: str, params: Any) -> None:
        try:
            if method in INQUIRIES:
                reply = await self._inquiries.ask(method, params)
            elif method == "swap":
                reply = encode(await self._swap(client, number, params))
            elif method == "session_keep":
                reply = encode(await self._session_keep(client, params))
            else:
                reply = encode(await self._methods[method](params))
            answer: Reply | Failure = Reply(reply)
        except ByenatosError as error:
            answer = failure_of(error)
        if client.calls.pop(number, None) is not None:
            self._bus.tell(client, number, answer)

    def _done(self, client: ClientState, number: int, task: asyncio.Task[None]) -> None:
        if self._running.get((client, number)) is task:
            del self._running[client, number]
        if not task.cancelled() and task.exception() is not None:  # a bug; whoever called must not wait for ever
            log.error("call %d failed", number, exc_info=task.exception())
            if client.calls.pop(number, None) is not None:
                self._bus.tell(client, number, Failure(ByenatosError.code, "the kernel failed; its log says how"))

    # ---- methods -----------------------------------------------------------------------------------------------

    async def _swap(self, client: ClientState, number: int, request: SwapRequest) -> SwapEvent:
        def observe(event: SwapEvent) -> None:
            if number in client.calls:
                self._bus.tell(client, number, Notice(encode(SwapAdvanced(event.at, event))))

        return await self._kernel.swaps.swap(request, observe)

    async def _status(self, _: Empty) -> KernelStatus:
        instances = tuple(instance.info for instance in self._drivers.instances)
        return KernelStatus(
            version=__version__,
            pid=os.getpid(),
            home=str(self._kernel.home.path),
            endpoint=self._kernel.home.endpoint,
            uptime_s=time.monotonic() - self._started,
            rss_bytes=_resident_bytes(),
            cpu_s=time.thread_time(),
            clients=len(self._bus.clients),
            streams=len(self._kernel.switchboard.live),
            requests=self._kernel.switchboard.admissions.requests,
            deltas=self._kernel.switchboard.deliveries.deltas,
            slots=tuple(await self._slots(Empty())),
            instances=instances,
            fronts=self._kernel.fronts.infos(),
            swaps=dict(self._kernel.swaps.counts.ended),
            moves=dict(self._kernel.swaps.counts.moves),
            plugins=tuple(plugin.info for plugin in self._registry.plugins.values()),
            warnings=(
                *self._warnings,
                *self._kernel.rules.warnings,
                *((self._kernel.policy.problem,) if self._kernel.policy.problem else ()),
                *self._kernel.enforcement.warnings,
                *self._kernel.fronts.warnings,
                *self._kernel.supply.warnings.values(),
                *self._kernel.offers.warnings.values(),
                *self._kernel.shelf.warnings,
                *self._kernel.registry.warnings,
                *self._kernel.triggers.warnings,
            ),
        )

    async def _models(self, _: Empty) -> list[ModelInfo]:
        counts: dict[str, int] = {}
        for instance in self._drivers.instances:
            counts[instance.model.id] = counts.get(instance.model.id, 0) + 1
        return [
            entry.info(counts.get(entry.id, 0), self._kernel.routes.bound_to(entry.id))
            for entry in sorted(self._registry.models.values(), key=lambda entry: entry.id)
        ]

    async def _slots(self, _: Empty) -> list[SlotInfo]:
        return [self._with_homes(slot) for _, slot in sorted(self._kernel.routes.slots.items())]

    def _with_homes(self, slot: Slot) -> SlotInfo:
        kept = self._kernel.swaps.probations.kept_by(slot.name)
        elsewhere = self._kernel.routes.homes.elsewhere(slot.name, slot.unit)
        return msgspec.structs.replace(slot.info, kept=kept.model.id if kept is not None else "", elsewhere=elsewhere)

    async def _unload(self, request: Any) -> Empty:
        self._kernel.supply.unload(request)
        await self._kernel.sessions.move_back(request.model)
        return Empty()

    async def _usage(self, _: Empty) -> UsageReport:
        return await self._kernel.preloads.report()

    async def _swap_back(self, slot: Named) -> SwapEvent:
        return await self._kernel.swaps.back(slot.name)

    async def _swap_cancel(self, named: Named) -> SwapEvent:
        return await self._kernel.swaps.cancel(named.name)

    async def _history(self, _: Empty) -> list[SwapEvent]:
        return await self._kernel.swaps.history()

    async def _triggers(self, _: Empty) -> list[TriggerInfo]:
        return self._kernel.triggers.infos()

    async def _list_sessions(self, _: Empty) -> list[SessionInfo]:
        return [self._with_home(info) for info in await self._kernel.sessions.list()]

    async def _session(self, named: Named) -> SessionTranscript:
        found = await self._kernel.sessions.show(named.name)
        return msgspec.structs.replace(found, info=self._with_home(found.info))

    def _with_home(self, info: SessionInfo) -> SessionInfo:
        kept = self._kernel.routes.homes.kept(info.id)
        return msgspec.structs.replace(info, home=kept) if kept else info

    async def _client_admit(self, named: Named) -> Empty:
        self._rates.admit(named.name)
        return Empty()

    async def _session_remove(self, named: Named) -> Empty:
        if self._kernel.turns.busy(named.name):
            raise InvalidRequest(f"session {named.name!r} is being answered; wait for it or cancel it")
        await self._kernel.sessions.remove(named.name)
        await self._kernel.states.forget(named.name)
        self._kernel.session_homes.leave(named.name)
        return Empty()

    async def _session_prefill(self, named: Named) -> SessionState:
        instance, transcript = await self._idle_session(named.name)
        messages = tuple(turn.message for turn in transcript.turns)
        positions = await self._kernel.states.prefill(instance, named.name, messages)
        return SessionState(named.name, instance.model.id, positions)

    async def _session_hibernate(self, named: Named) -> SessionState:
        instance, _ = await self._idle_session(named.name)
        positions, size = await self._kernel.states.hibernate(instance, named.name)
        return SessionState(named.name, instance.model.id, positions, size)

    async def _session_wake(self, named: Named) -> SessionState:
        instance, _ = await self._idle_session(named.name)
        return SessionState(named.name, instance.model.id, await self._kernel.states.wake(instance, named.name))

    async def _idle_session(self, session: str) -> tuple[Instance, SessionTranscript]:
        """A session that is not being answered, and the instance that serves its slot."""
        if self._kernel.turns.busy(session):
            raise InvalidRequest(f"session {session!r} is being answered; wait for it or cancel it")
        transcript = await self._kernel.sessions.show(session)
        unit, _ = self._kernel.routes.resolve_turn(transcript.info.slot, session)
        if unit.ready is None:
            raise Unavailable(f"slot {transcript.info.slot!r}: {unit.model.id} is not ready")
        return unit.ready, transcript

    async def _session_keep(self, client: ClientState, order: KeepOrder) -> Empty:
        check_session(order.id)
        await self._kernel.sessions.keep(order, client.owner)
        return Empty()

    async def _secrets(self, _: Empty) -> list[SecretInfo]:
        return await self._kernel.egress.secrets()

    async def _shutdown(self, _: Empty) -> Empty:
        asyncio.get_running_loop().call_soon(self._kernel.stop)
        return Empty()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
