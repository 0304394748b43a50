"""A kernel in the middle of a swap, turned by hand: what is done at which turn of its loop is the test's to say.

Between two turns everything waits somewhere, so that a fault that is tried at each turn is tried at each await. Time
stands still: what would happen later happens when all else is over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kernel_rig import Rig, text_of
from scripted_driver import ScriptedDriver

from byenatos_kernel.clients import ClientState
from byenatos_kernel.swap_policy import MemoryRules, ProbationRules, SwapPolicy, SwapRules
from byenatos_kernel.swaps import ENDED, TRANSITIONS
from byenatos_sdk.protocol.control import SwapAdvanced
from byenatos_sdk.protocol.errors import ByenatosError, Cancelled
from byenatos_sdk.protocol.messages import Failure, Finish, SwapRequest, SwapState

__all__ = ["World"]

TOKENS = 9
"""Of each whole answer."""
SPEAK_EVERY = 3
"""Turns between two tokens of an answer."""
ASK_EVERY = 11
"""Turns between two requests that come in while a swap runs."""
MOST_ASKED = 4
BOOT_ROUNDS = 30
MOST_TURNS = 160
"""More than any way has; one that a fault keeps from going on is waited for no longer."""
CALM_ROUNDS = 120
PATIENT_ROUNDS = 12
"""After them nobody waits for a kept model to be let go: it is."""
SLOTS = {"main": "a", "side": "b"}


class World:
    """One run. ``wrong`` collects what cannot be; ``narrow``: there is memory for two models and no more."""

    def __init__(self, folder: Path, *, narrow: bool = False, keep_old_s: float = 0.0) -> None:
        self.folder = folder
        self.narrow = narrow
        self.policy = SwapPolicy(
            SwapRules(keep_old_s=keep_old_s),
            MemoryRules(90) if narrow else MemoryRules(),
            probation=ProbationRules(least_requests=2),
        )
        self.asked: list[int] = []
        self.wanted: asyncio.Task[Any] | None = None
        self.others: list[asyncio.Task[Any]] = []
        self.refuses: set[ScriptedDriver] = set()
        self.disk_full = False
        self.kernel: Rig

    async def start(self) -> None:
        """Two models serve, and three answers have begun, one of them in a session."""
        await self._boot()
        for where, session in (("main", None), ("main", "talk"), ("side", None)):
            self.asked.append(self.kernel.open(where, session=session))
        await self.kernel.settle(3)
        self._speak()
        await self.kernel.settle(1)

    async def _boot(self) -> None:
        self.kernel = Rig(self.folder, SLOTS, memory_mib=dict.fromkeys("abc", 40))
        self.kernel.policy = self.policy
        self.kernel.ignore_time()
        await self.kernel.start()
        slots = [self.kernel.routes.slots[name] for name in SLOTS]
        for _ in range(BOOT_ROUNDS):
            if all(slot.unit is not None and slot.unit.ready for slot in slots):
                break
            await self.kernel.settle(1)
        await self.kernel.session_homes.start()

    async def run(self, way: Callable[["World"], Awaitable[Any]], fault: Callable[["World"], Any], at: int) -> int:
        """Go the way with a fault at a turn, until all is over; return after how many turns it was."""
        self.wanted = asyncio.ensure_future(self._go(way))
        turn = 0
        while not self.wanted.done() and turn < MOST_TURNS:
            if turn == at:
                await self._happen(fault)
            if turn % SPEAK_EVERY == 0:
                self._speak()
            if turn % ASK_EVERY == 5 and len(self.asked) < 3 + MOST_ASKED:
                self.asked.append(self.kernel.open("main"))
            self._misbehave()
            await asyncio.sleep(0)
            turn += 1
        await self.calm()
        return turn

    async def _go(self, way: Callable[["World"], Awaitable[Any]]) -> None:
        with suppress(ByenatosError):
            await way(self)

    async def _happen(self, fault: Callable[["World"], Any]) -> None:
        with suppress(ByenatosError):
            happening = fault(self)
            if happening is not None:
                await happening

    def later(self, work: Awaitable[Any]) -> None:
        """Something else that goes on beside the swap."""

        async def go() -> None:
            with suppress(ByenatosError):
                await work

        self.others.append(asyncio.ensure_future(go()))

    # ---- what drivers do ---------------------------------------------------------------------------------------

    def _speak(self) -> None:
        for driver in self.kernel.alive:
            for number in list(driver.streams):
                if driver in self.refuses:
                    driver.break_down(number)
                elif driver.streams[number] >= TOKENS:
                    driver.finish(number)
                else:
                    driver.say(number)

    def _misbehave(self) -> None:
        for driver in self.refuses:
            if driver.alive and driver.load:
                driver.load_fails()
            elif driver.alive:
                driver.feels("down")

    @property
    def source(self) -> ScriptedDriver | None:
        """What answered the slot when the swap began."""
        return next((one for one in self.kernel.alive if one.model == "a"), None)

    @property
    def newest(self) -> ScriptedDriver | None:
        """What was started last, if it was started for the swap."""
        made = self.kernel.drivers_made
        return made[-1] if len(made) > len(SLOTS) and made[-1].alive else None

    # ---- faults ------------------------------------------------------------------------------------------------

    def source_dies(self) -> None:
        if self.source is not None:
            self.source.exit()

    def target_dies(self) -> None:
        if self.newest is not None:
            self.newest.exit()

    def all_die(self) -> None:
        for driver in self.kernel.alive:
            driver.exit()

    def target_fails_at_all(self) -> None:
        if self.newest is not None:
            self.newest.obedient = False
            self.refuses.add(self.newest)

    def target_hangs(self) -> None:
        """It answers nothing more, until the kernel has lost its patience."""
        if self.newest is not None:
            self.newest.obedient = False
            victim = self.newest
            instance = next(one for one in self.kernel.drivers.instances if one.process is victim)
            asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(instance.fail, "hangs"))

    def target_talks_rubbish(self) -> None:
        if self.newest is not None:
            self.newest.send_raw(b"\xc1rubbish")

    def source_breaks_down(self) -> None:
        if self.source is not None:
            for number in list(self.source.streams):
                self.source.break_down(number)

    def clients_leave(self) -> None:
        for number in self.asked:
            self.kernel.switchboard.cancel(self.kernel.client, number)

    def connection_breaks(self) -> None:
        self.kernel.switchboard.client_gone(self.kernel.client, Cancelled("the client went away"))

    async def swap_is_given_up(self) -> None:
        self.later(self.kernel.swaps.cancel("main"))

    async def another_swap_is_wanted(self) -> None:
        self.later(self.kernel.swaps.swap(SwapRequest("main", "c", "immediate")))

    async def side_is_swapped(self) -> None:
        self.later(self.kernel.swaps.swap(SwapRequest("side", "c", "immediate")))

    async def slot_goes_back(self) -> None:
        self.later(self.kernel.swaps.back("main"))

    async def session_is_removed(self) -> None:
        self.later(self._remove("talk"))

    async def _remove(self, session: str) -> None:
        await self.kernel.sessions.remove(session)
        self.kernel.session_homes.leave(session)

    def disk_is_full(self) -> None:
        self.kernel.database.failing = True
        self.disk_full = True

    async def kernel_dies(self) -> None:
        """And the next one begins on the same home. What its clients asked has gone with it."""
        assert self.wanted is not None
        for task in (self.wanted, *self.others):
            task.cancel()
        self.kernel.kill()
        await asyncio.gather(self.wanted, *self.others, return_exceptions=True)
        await asyncio.sleep(0)
        self.asked.clear()
        self.refuses.clear()
        await self._boot()

    # ---- the end -----------------------------------------------------------------------------------------------

    async def calm(self) -> None:
        """Everybody does what is asked, and back-offs pass: then all must come to its end."""
        kernel = self.kernel
        kernel.database.failing = False
        self.refuses.clear()
        for done in range(CALM_ROUNDS):
            if done == PATIENT_ROUNDS:
                kernel.swaps.close()
            kernel.pass_back_offs()
            kernel.everybody_obeys()
            self._speak()
            await kernel.settle(1)
            if done >= PATIENT_ROUNDS and self._over():
                break

    def _over(self) -> bool:
        done = all(task.done() for task in (self.wanted, *self.others) if task is not None)
        idle = not any(driver.streams or driver.load for driver in self.kernel.alive)
        units = [slot.unit for slot in self.kernel.routes.slots.values() if slot.unit is not None]
        idle = idle and all(unit.ready or unit.dead for unit in units)
        busy = (self.kernel.switchboard.live, self.kernel.renewals._tasks, self.kernel.swaps._tasks)
        return done and idle and not any(busy)

    async def judge(self) -> list[str]:
        """What cannot be, in sentences."""
        kernel = self.kernel
        wrong = [*self._of_the_streams(), *self._of_the_swaps(), *self._of_the_units()]
        for task in (self.wanted, *self.others):
            if task is not None and not task.done():
                wrong.append(f"somebody waits for ever: {task}")
            elif task is not None and not task.cancelled() and task.exception() is not None:
                wrong.append(f"a bug: {task.exception()!r}")
        unfinished = [event for event in await kernel.swaps.history() if event.state not in ENDED]
        if unfinished and not self.disk_full:
            wrong.append(f"the journal holds {unfinished}")
        sessions = {info.id for info in await kernel.sessions.list()}
        homeless = [session for session in kernel.routes.homes._homes if session not in sessions]
        wrong += [f"a model is kept for the conversation {session}, which was removed" for session in homeless]
        if not wrong:
            wrong += await self._goes_on()
        return wrong

    def _of_the_streams(self) -> list[str]:
        wrong: list[str] = []
        kernel = self.kernel
        for number in self.asked:
            events = kernel.heard(number)
            ends = [event for event in events if isinstance(event, Finish | Failure)]
            text = text_of(events)
            whole = "".join(f"{token} " for token in range(text.count(" ")))
            if len(ends) != 1 or events[-1] is not ends[0]:
                wrong.append(f"answer {number} ended {len(ends)} times: {events}")
            elif text != whole:
                wrong.append(f"answer {number} was {text!r}")
            elif isinstance(ends[0], Finish) and text.count(" ") != TOKENS:
                wrong.append(f"answer {number} ended well after {text!r}")
            elif isinstance(ends[0], Failure) and text and not ends[0].partial:
                wrong.append(f"answer {number} failed after {text!r} and does not say so")
        client = kernel.client
        left = (kernel.switchboard.live, client.streams, client.lag, client.body_bytes, kernel.turns._busy)
        if any(left):
            wrong.append(f"left of streams: {left}")
        return wrong

    def _of_the_swaps(self) -> list[str]:
        wrong: list[str] = []
        kernel = self.kernel
        if kernel.swaps._tasks or kernel.swaps._current or kernel.drivers.room.claims:
            wrong.append(f"left of swaps: {kernel.swaps._current} {kernel.drivers.room.claims}")
        steps: dict[int, list[SwapState]] = {}
        for event in kernel.events:
            if isinstance(event, SwapAdvanced):
                told = steps.setdefault(event.swap.id, [])
                again = bool(told) and told[-1] is event.swap.state
                if again:  # told once more, with what is known by now
                    continue
                if told and event.swap.state not in TRANSITIONS[told[-1]]:
                    wrong.append(f"swap {event.swap.id} went from {told[-1]} to {event.swap.state}")
                told.append(event.swap.state)
        wrong += [f"swap {number} stays {told[-1]}" for number, told in steps.items() if told[-1] not in ENDED]
        return wrong

    def _of_the_units(self) -> list[str]:
        wrong: list[str] = []
        kernel = self.kernel
        for name, slot in kernel.routes.slots.items():
            if slot.queue is not None or slot.swap is not None:
                wrong.append(f"slot {name} is left with {slot.queue} {slot.swap}")
            if slot.model and (slot.unit is None or slot.unit.ready is None):
                wrong.append(f"slot {name} is served by nothing: {slot.info}")
            elif slot.unit is not None and slot.unit.model.id != slot.model:
                wrong.append(f"slot {name} has {slot.model} and is served by {slot.unit.model.id}")
        bound = {slot.unit for slot in kernel.routes.slots.values()}
        homes = kernel.routes.homes._homes.values()
        kept = {home.unit for home in homes}
        for unit in kernel.drivers.units:
            at_home = {home.reservation for home in homes if home.unit is unit}
            reserved = [name for name in unit.slots if name.startswith("(") and name not in at_home]
            if unit.waiting or (reserved and not unit.pinned):
                wrong.append(f"{unit.model.id} is left with {unit.waiting} {reserved}")
            if unit not in bound and unit not in kept and not unit.pinned and not unit.dead:
                wrong.append(f"{unit.model.id} stays loaded for nobody: {unit.slots}")
        owned = {unit.instance.process for unit in kernel.drivers.units if unit.instance is not None}
        wrong += [f"a process of {one.model} stays for nobody" for one in kernel.alive if one not in owned]
        return wrong

    async def _goes_on(self) -> list[str]:
        """After whatever happened, the slots answer and can be swapped."""
        kernel = self.kernel
        model = "c" if kernel.routes.slots["main"].model != "c" else "a"
        client = ClientState("uid:0", 0)
        number = kernel.open("main", client=client)
        swap = asyncio.ensure_future(kernel.swaps.swap(SwapRequest("main", model, "immediate")))
        for _ in range(CALM_ROUNDS):
            self._speak()
            await kernel.settle(1)
            if swap.done() and not kernel.switchboard.live:
                break
        if not swap.done() or swap.exception() is not None:
            return [f"the next swap does not work: {swap}"]
        end = kernel.heard(number, client)[-1]
        if not isinstance(end, Finish) or kernel.routes.slots["main"].model != model:
            return [f"after the next swap: {end}, {kernel.routes.slots['main'].info}"]
        return []
