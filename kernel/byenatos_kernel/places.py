"""Where streams are: on an instance, in a unit's queue, or on the way from one to the other.

A stream is in exactly one place. Whoever wants it elsewhere takes it out first (:meth:`Places.detach`).
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.slot_queue import SlotQueue
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded
from byenatos_sdk.protocol.frames import Start, Stop

__all__ = ["Places"]

PATIENCE_S = 2.0
"""A restart that is due within this time is waited for."""


class StandIn(Protocol):
    """Finds what serves instead of a slot's own model; ``StandIns.find``."""

    def __call__(self, slot: Slot, tried: Collection[str], *, load: bool) -> Unit | None:
        """Return it, if there is one whose model is not in ``tried``."""


class Places:
    """Puts streams on instances and takes them off.

    Its owner sets ``fallback``, ``way_back``, ``stand_in``, ``fail`` and ``started``.
    """

    def __init__(self, drivers: DriverManager, routes: Routes) -> None:
        self.fallback: Callable[[], Unit | None] = lambda: None
        self.way_back: Callable[[str], Unit | None] = lambda _slot: None
        self.stand_in: StandIn = lambda _slot, _tried, *, load: None  # noqa: ARG005 - as StandIns.find
        self.fail: Callable[[Stream, ByenatosError], None] = lambda _stream, _error: None
        self.drivers = drivers
        self._routes = routes
        self.started: Callable[[Stream, Instance], None] = lambda _stream, _instance: None
        self._next = 1
        self._held: dict[Instance, None] | None = None
        self._loop = asyncio.get_running_loop()

    def hold(self) -> bool:
        """Collect what goes to drivers until :meth:`release`: the requests of one drain leave in one write.

        Returns whether it was this call that began to collect; only then is ``release`` owed.
        """
        if self._held is not None:
            return False
        self._held = {}
        return True

    def release(self) -> None:
        """Write what was collected, now, and not a turn of the loop later."""
        held = self._held
        self._held = None
        if held:
            for instance in held:
                instance.flush()

    def place(self, stream: Stream, unit: Unit) -> None:
        """Give a stream to a unit: to its instance, else to its queue, else to a refuge; raises if none will do.

        While its slot has a queue, it waits in that, whichever the unit, unless an operator moved its conversation to
        the unit.
        """
        queue = self._queue_of(stream)
        if queue is not None and not (self._kept_at(stream, unit) and self.returns(unit)):
            queue.wait(stream)
            return
        instance = unit.ready
        if instance is not None:
            self.start(stream, instance)
            return
        if self.returns(unit):
            refuge = self.refuge(stream, unit, load=False) if unit.restarts else None
            if refuge is not None and refuge.ready is not None:
                self.start(stream, refuge.ready)
            else:
                unit.wait(stream)
            return
        refuge = self.refuge(stream, unit)
        if refuge is None:
            raise unit.unavailable(self._loop.time())
        self.place(stream, refuge)

    def refuge(self, stream: Stream, lost: Unit, *, load: bool = True) -> Unit | None:
        """Where a stream can go when its unit cannot serve it: a unit that has not failed it yet.

        What its slot is bound to by now, the old unit that is still kept after a swap, another process with the same
        model, the fallback, or one of the slot's ``degrade_to``, which are loaded for it unless ``load`` is false.
        While its slot has a queue, it is to wait in that.
        """
        if self._queue_of(stream) is not None:
            return lost
        slot = self._routes.slot_of(stream)
        tried = {id(lost), *(id(unit) for unit, _ in stream.refusals)}
        bound, kept = (slot.unit, self.way_back(slot.name)) if slot is not None else (None, None)
        for unit in (bound, kept, self.twin(lost), self.fallback()):
            if unit is not None and id(unit) not in tried and (unit.ready or unit.starting):
                return self._standing_in(slot, unit)
        if slot is None:
            return None
        models = {lost.model.id, *(unit.model.id for unit, _ in stream.refusals)}
        return self._standing_in(slot, self.stand_in(slot, models, load=load))

    def twin(self, unit: Unit) -> Unit | None:
        """Another unit with the same model that is ready, such as the one that a swap is preparing."""
        return next(
            (
                one
                for one in self.drivers.units
                if one.model is unit.model and one is not unit and one.ready and not one.leaving
            ),
            None,
        )

    def instead(self, name: str) -> Unit | None:
        """What serves a slot whose model could not even begin to be loaded: the fallback, or one of ``degrade_to``."""
        slot = self._routes.slots.get(name)
        if slot is None or slot.unit is not None or slot.swap is not None or self._routes.awaited(slot):
            return None
        unit = self.fallback()
        if unit is None or not (unit.ready or unit.starting):
            unit = self.stand_in(slot, (), load=True)
        return self._standing_in(slot, unit)

    @staticmethod
    def _standing_in(slot: Slot | None, unit: Unit | None) -> Unit | None:
        """Note which unit serves a slot whose own does not; return that unit."""
        if slot is not None and unit is not None and unit is not slot.unit:
            slot.stand_in = unit
        return unit

    def returns(self, unit: Unit) -> bool:
        """Whether an instance of ``unit`` is there, or will be soon."""
        soon = unit.restart is not None and unit.restart_at - self._loop.time() < PATIENCE_S
        return unit.ready is not None or unit.starting or soon

    def start(self, stream: Stream, instance: Instance) -> None:
        """Send a stream to an instance, with the text that its answer already has."""
        text = stream.text if stream.total else ""
        stream.base = len(text)
        if stream.record is not None:  # what was journaled is another beginning's state
            stream.record.clear()
            stream.record = None
        number = self.reserve()
        self.enter(stream, instance, number)
        try:
            held = self._held
            if held is not None:
                held[instance] = None
            instance.send(Start(number, text), stream.body, hold=held is not None)
        except Overloaded as error:
            self.detach(stream, stop=False)  # it has never heard of this stream
            self.fail(stream, error)
        else:
            self.started(stream, instance)

    def reserve(self) -> int:
        """A number for a stream on its way to an instance."""
        number = self._next
        self._next = number + 1
        return number

    def enter(self, stream: Stream, instance: Instance, number: int) -> None:
        """Put a stream, which is in no place, into the table of an instance; the driver is told by the caller."""
        stream.id = number
        stream.instance = instance
        stream.epoch = instance.epoch
        stream.model = instance.model.id
        stream.state = StreamState.RUNNING
        stream.progress = self._loop.time()
        stream.awaited = True
        instance.streams[number] = stream

    def why_waiting(self, stream: Stream) -> str:
        """Say what a stream waits for, if that is its slot's queue; else nothing."""
        queue = self._queue_of(stream)
        return queue.reason if queue is not None and stream in queue else ""

    def _queue_of(self, stream: Stream) -> SlotQueue | None:
        slot = self._routes.slots.get(stream.slot) if stream.slot is not None else None
        return slot.queue if slot is not None else None

    def _kept_at(self, stream: Stream, unit: Unit) -> bool:
        """Whether an operator moved a stream's conversation to ``unit``: it has nothing to do with its slot's swaps."""
        home = self._routes.homes.find(stream.session, stream.slot) if stream.session is not None else None
        return home is not None and home.kept and home.unit is unit

    def detach(self, stream: Stream, *, stop: bool = True) -> None:
        """Take a stream out of its place; with ``stop`` the driver is told, since it does not know yet."""
        instance = stream.instance
        if instance is None:
            for unit in self.drivers.units:
                unit.leave(stream)
            queue = self._queue_of(stream)
            if queue is not None:
                queue.leave(stream)
            return
        stream.instance = None
        stream.state = StreamState.WAITING
        instance.streams.pop(stream.id, None)
        if stop:
            try:
                instance.send(Stop(stream.id))
            except Overloaded:
                instance.fail("does not read its channel: not even a stop could be delivered")
        self.drivers.stream_ended(instance)
