"""Swaps: each arrow and each way off it, then every order of events that Hypothesis can think of."""

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kernel_rig import Rig, text_of

from byenatos_kernel.streams import StreamState
from byenatos_kernel.swap_policy import MemoryRules, ProbationRules, QueueRules, SwapPolicy, SwapRules
from byenatos_kernel.swaps import ENDED, TRANSITIONS
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.messages import Failure, Finish, Moved, SwapRequest, SwapState


async def test_a_swap_takes_every_step_of_the_table_in_order(rig):
    async with rig() as kernel:
        await kernel.settle()
        steps = []
        event = await kernel.swaps.swap(
            SwapRequest("main", "b", until="retired"), lambda event: steps.append(event.state)
        )
        assert steps == list(SwapState)[:-2]
        assert event.state is SwapState.RETIRED
        assert (event.source, event.target) == ("a", "b")
        assert kernel.routes.slots["main"].model == "b"
        assert [driver.model for driver in kernel.alive] == ["b"]
        assert [stored.state for stored in await kernel.swaps.history()] == [SwapState.RETIRED]


async def test_immediate_continues_the_text_where_the_old_model_stopped(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        old.say(here)
        old.say(here)
        await kernel.settle()
        event = await kernel.swaps.swap(SwapRequest("main", "b", "immediate"))
        assert event.moved_streams == 1
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.say(there)
        new.finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert [one for one in kernel.heard(number) if isinstance(one, Moved)] == [Moved("a", "b", "swap")]
        assert kernel.terminal(number) == Finish(model="b")
        assert not old.alive


async def test_graceful_lets_the_stream_end_on_the_old_model_and_then_lets_it_go(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        await kernel.swaps.swap(SwapRequest("main", "b"))
        old = kernel.driver("a")
        (here,) = old.streams
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")
        assert not old.alive


async def test_what_an_old_instance_says_after_the_switch_reaches_nobody(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b", "immediate")))
        while kernel.routes.slots["main"].model == "a":
            await asyncio.sleep(0)
        old.tell(here, Failure("internal", "too late"))
        await swap
        await kernel.settle()
        assert kernel.terminal(number) is None
        assert kernel.driver("b").streams


@pytest.mark.parametrize(
    ("slot", "model", "error"),
    [("main", "unknown", NotFound), ("nowhere", "b", NotFound), ("a", "b", InvalidRequest)],
)
async def test_a_swap_that_cannot_be_is_refused_and_leaves_nothing_behind(rig, slot, model, error):
    async with rig() as kernel:
        await kernel.settle()
        before = kernel.routes.slots["main"].unit
        with pytest.raises(error):
            await kernel.swaps.swap(SwapRequest(slot, model))
        assert kernel.routes.slots["main"].unit is before
        assert kernel.routes.slots["main"].swap is None
        assert len(kernel.drivers.units) == 1


async def test_only_one_swap_at_a_time_per_slot(rig):
    async with rig() as kernel:
        await kernel.settle()
        kernel.obedient = False
        first = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
        await kernel.settle()
        with pytest.raises(InvalidRequest, match="is being swapped to b"):
            await kernel.swaps.swap(SwapRequest("main", "c"))
        await kernel.comes_up("b")
        assert (await first).target == "b"


@pytest.mark.parametrize("state", list(SwapState)[:4])
async def test_a_journal_that_cannot_be_written_before_the_switch_fails_the_swap_and_frees_the_target(rig, state):
    async with rig() as kernel:
        await kernel.settle()
        before = kernel.routes.slots["main"].unit

        def observe(event) -> None:
            if event.state is state:
                kernel.database.failing = True

        with pytest.raises(ByenatosError, match="the disk is full"):
            await kernel.swaps.swap(SwapRequest("main", "b"), observe)
        kernel.database.failing = False
        await kernel.settle()
        assert kernel.routes.slots["main"].unit is before
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]
        assert [driver.model for driver in kernel.alive] == ["a"]


async def test_a_switch_that_could_not_be_recorded_stands_and_says_so(rig, tmp_path):
    async with rig() as kernel:
        await kernel.settle()

        def observe(event) -> None:
            kernel.database.failing = event.state is SwapState.SWITCHED

        event = await kernel.swaps.swap(SwapRequest("main", "b", until="retired"), observe)
        assert "not recorded: the disk is full" in event.detail
        assert kernel.routes.slots["main"].model == "b"


async def test_a_target_that_says_it_is_down_is_not_switched_to(rig):
    async with rig() as kernel:
        await kernel.settle()
        kernel.obedient = False
        swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
        await kernel.settle()
        kernel.driver("b").loaded()
        await kernel.settle()
        kernel.driver("b").feels("down")
        with pytest.raises(Unavailable, match="says that it is down"):
            await swap
        assert kernel.routes.slots["main"].model == "a"


async def test_a_target_that_dies_while_its_last_step_is_recorded_is_not_switched_to(rig):
    async with rig() as kernel:
        await kernel.settle()

        def observe(event) -> None:
            if event.state is SwapState.PREPARED:
                kernel.driver("b").exit()

        with pytest.raises(Unavailable, match="lost just before the switch"):
            await kernel.swaps.swap(SwapRequest("main", "b"), observe)
        assert kernel.routes.slots["main"].model == "a"
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]


# ---- every order of events --------------------------------------------------------------------------------------

SLOTS = {"main": "a", "side": "b"}
ROOM_FOR_TWO = 90
pick = st.integers(0, 7)


class Swaps(RuleBasedStateMachine):
    """Real managers on a real database; drivers that load, speak and die when Hypothesis says so."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="hypothesis-swaps-", dir=memory if memory.is_dir() else None))
        self.loop = asyncio.new_event_loop()
        self.escaped: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.escaped.append(context))

    def do(self, work):
        async def bounded():
            async with asyncio.timeout(60):
                return await work

        return self.loop.run_until_complete(bounded())

    async def _boot(self) -> None:
        fallback = None if self.narrow else "c"
        self.kernel = Rig(self.folder, SLOTS, fallback=fallback, memory_mib=dict.fromkeys("abc", 40))
        self.kernel.policy = SwapPolicy(
            SwapRules(keep_old_s=600.0 if self.keeping else 0.0),
            MemoryRules(ROOM_FOR_TWO) if self.narrow else MemoryRules(),
            QueueRules(3) if self.narrow else QueueRules(),
            ProbationRules(least_requests=2),
        )
        self.kernel.ignore_time()
        self.kernel.obedient = False
        self.journal_failed = False
        self.turned_back = 0
        self.streams: dict[int, str] = {}
        self.swaps: list[asyncio.Task] = []
        self.steps: dict[int, list[SwapState]] = {}
        await self.kernel.start()

    @initialize(serving=st.booleans(), narrow=st.booleans(), keeping=st.booleans())
    def boot(self, serving, narrow, keeping) -> None:
        """``narrow``: there is room for the models of the two slots and no other, so that swaps are sequential.

        ``keeping``: an old model is kept after a switch, and the slot goes back to it if the new one fails.
        """
        self.narrow = narrow
        self.keeping = keeping
        self.allowed = {slot: [(0, model)] for slot, model in SLOTS.items()}
        self.do(self._boot())
        if serving:
            self.all_is_well()
            self.open("main", in_session=False)
            self.open("side", in_session=True)
            self.settle()
            self.speak_all()

    # ---- rules -------------------------------------------------------------------------------------------------

    @rule(
        slot=st.sampled_from(["main", "side", "main", "a"]),
        model=st.sampled_from(["a", "b", "c", "unknown"]),
        strategy=st.sampled_from(["graceful", "immediate", "session_aware", "background"]),
        until=st.sampled_from(["switched", "retired"]),
    )
    def request(self, slot, model, strategy, until) -> None:
        self.do(self._request(SwapRequest(slot, model, strategy, until=until)))

    async def _request(self, request: SwapRequest) -> None:
        kernel = self.kernel
        slot = kernel.routes.slots.get(request.slot)
        before = slot.unit if slot else None
        turned_back = self.turned_back
        heard = self.steps  # of this kernel, also where it is killed and says its last word while the next one starts

        def observe(event) -> None:
            steps = heard.setdefault(event.id, [])
            if event.mode == "sequential" and steps[-1] is event.state is SwapState.VALIDATED:
                return  # the old model leaves
            if self.keeping and steps and steps[-1] is event.state is SwapState.DRAINING:
                return  # it is known by now what the move cost
            assert event.state in (TRANSITIONS[steps[-1]] if steps else {SwapState.REQUESTED})
            steps.append(event.state)
            if SwapState.SWITCHED not in steps:
                returned = event.mode == "sequential" and event.state is SwapState.FAILED
                went_back = self.turned_back != turned_back  # by the swap before, while this one began
                assert slot.unit is before or returned or went_back, "the slot changed before the switch"
            elif event.state is SwapState.SWITCHED:
                assert slot.model == request.model
                self.allowed[request.slot].append((event.id, request.model))
            elif event.state is SwapState.ROLLED_BACK:
                self.turned_back += 1
                assert slot.model == event.source
                self.allowed[request.slot].append((event.id, event.source))

        async def ask() -> None:
            try:
                event = await kernel.swaps.swap(request, observe)
            except ByenatosError:
                return
            if "not recorded" not in event.detail:
                self.allowed[request.slot] = [one for one in self.allowed[request.slot] if one[0] >= event.id]

        self.swaps.append(asyncio.create_task(ask()))
        await asyncio.sleep(0)

    @rule(which=pick, how=st.sampled_from(["loaded", "loaded", "loaded", "load_fails"]))
    @precondition(lambda self: any(driver.load for driver in self.kernel.alive))
    def answer_load(self, which, how) -> None:
        loading = [driver for driver in self.kernel.alive if driver.load]
        self._now(getattr(loading[which % len(loading)], how))

    @rule(which=pick, status=st.sampled_from(["ok", "ok", "degraded", "down"]))
    @precondition(lambda self: any(driver.health_calls for driver in self.kernel.alive))
    def answer_health(self, which, status) -> None:
        asked = [driver for driver in self.kernel.alive if driver.health_calls]
        self._now(asked[which % len(asked)].feels, status)

    @rule()
    def all_is_well(self) -> None:
        """What is to be loaded loads, and is healthy: without this few swaps would get as far as the switch."""

        async def work() -> None:
            for _ in range(3):
                for driver in self.kernel.alive:
                    if driver.load:
                        driver.loaded()
                    driver.feels("ok")
                await self.kernel.settle(2)

        self.do(work())

    @rule()
    def speak_all(self) -> None:
        def work() -> None:
            for driver in self.kernel.alive:
                for number in driver.streams:
                    driver.say(number)

        self._now(work)

    @rule(
        slot=st.sampled_from(["main", "side"]),
        model=st.sampled_from(["a", "b", "c"]),
        strategy=st.sampled_from(["graceful", "immediate", "immediate", "session_aware", "background"]),
        in_session=st.booleans(),
        status=st.sampled_from(["ok", "ok", "ok", "down"]),
        dies=st.sampled_from([None, None, "loading", "loaded", "well"]),
        turns=st.integers(0, 8),
    )
    def swap_under_an_answer(self, slot, model, strategy, in_session, status, dies, turns) -> None:
        """The way that a swap is meant to go, as one step: by chance alone it is seldom gone to its end."""
        self.open(slot, in_session)
        self.settle()
        self.speak_all()
        known = set(self.kernel.drivers_made)
        self.request(slot, model, strategy, "switched")
        self.settle()
        self.speak_all()
        if self.narrow:
            self.open(slot, in_session)
            self.let_drained_drivers_leave()
            self.settle()
        for target in [driver for driver in self.kernel.alive if driver not in known]:
            for step, act in (
                ("loading", lambda: target.load and target.loaded()),  # noqa: B023 - called at once
                ("loaded", lambda: target.feels(status)),  # noqa: B023
                ("well", lambda: None),
            ):
                if dies == step:
                    self.turn(turns)
                    self._now(target.exit)
                if target.alive:
                    self._now(act)
                    if dies is None:
                        self.settle()
        self.speak_all()

    @rule(slot=st.sampled_from(["main", "side"]))
    @precondition(lambda self: self.keeping)
    def go_back(self, slot) -> None:
        async def ask() -> None:
            with suppress(ByenatosError):
                await self.kernel.swaps.back(slot)

        async def work() -> None:
            self.swaps.append(asyncio.create_task(ask()))
            await asyncio.sleep(0)

        self.do(work())

    @rule()
    @precondition(lambda self: self.keeping)
    def let_a_kept_model_go(self) -> None:
        self._now(self.kernel.swaps.give_up_kept)

    @rule(which=pick, on=st.booleans())
    @precondition(lambda self: self.streams)
    def pause(self, which, on) -> None:
        numbers = list(self.streams)
        self._now(lambda: self.kernel.switchboard.pause(self.kernel.client, numbers[which % len(numbers)], on=on))

    @rule(which=pick)
    @precondition(lambda self: self.kernel.alive)
    def die(self, which) -> None:
        self._now(self.kernel.alive[which % len(self.kernel.alive)].exit)

    @rule()
    def let_drained_drivers_leave(self) -> None:
        for driver in self.kernel.alive:
            if driver.drained and not driver.streams:
                self._now(driver.exit, 0)

    @rule()
    def let_back_off_pass(self) -> None:
        self._now(self.kernel.pass_back_offs)

    @rule(where=st.sampled_from(["main", "side", "a", "c", "nowhere"]), in_session=st.booleans())
    def open(self, where, in_session) -> None:
        def work() -> None:
            session = f"session {len(self.streams) % 3}" if in_session else None
            self.streams[self.kernel.open(where, session=session)] = where

        self._now(work)

    @rule(which=pick, what=st.sampled_from(["say", "say", "say", "finish", "fail", "break_down"]))
    @precondition(lambda self: any(driver.streams for driver in self.kernel.alive))
    def speak(self, which, what) -> None:
        pairs = [(driver, number) for driver in self.kernel.alive for number in driver.streams]
        driver, number = pairs[which % len(pairs)]
        self._now(getattr(driver, what), number)

    @rule(which=pick)
    @precondition(lambda self: self.streams)
    def cancel(self, which) -> None:
        numbers = list(self.streams)
        self._now(self.kernel.switchboard.cancel, self.kernel.client, numbers[which % len(numbers)])

    @rule(on=st.booleans())
    def journal(self, on) -> None:
        self.kernel.database.failing = not on
        self.journal_failed |= not on

    @rule(turns=st.integers(0, 12))
    def turn(self, turns) -> None:
        async def work() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.do(work())

    @rule()
    def settle(self) -> None:
        self.do(self.kernel.settle(3))

    @rule()
    def restart_kernel(self) -> None:
        async def work() -> None:
            self.kernel.kill()
            await asyncio.gather(*self.swaps, return_exceptions=True)
            await self._boot()

        for task in self.swaps:
            task.cancel()
        self.do(work())
        for name, slot in self.kernel.routes.slots.items():
            if name in SLOTS:
                assert slot.model in [model for _, model in self.allowed[name]]
                self.allowed[name] = [one for one in self.allowed[name] if one[1] == slot.model][-1:]

    def _now(self, work, *arguments) -> None:
        async def once() -> None:
            work(*arguments)
            await asyncio.sleep(0)

        self.do(once())

    # ---- what holds at any time --------------------------------------------------------------------------------

    @invariant()
    def nothing_escapes_into_the_loop(self) -> None:
        assert not self.escaped, self.escaped

    @invariant()
    def each_stream_is_in_one_place(self) -> None:
        kernel = self.kernel
        board = kernel.switchboard
        for stream in board.live:
            waits = sum(unit.waiting.count(stream) for unit in kernel.drivers.units)
            waits += sum(slot.queue is not None and stream in slot.queue for slot in kernel.routes.slots.values())
            runs = sum(list(one.streams.values()).count(stream) for one in kernel.drivers.instances)
            if stream.state is StreamState.RUNNING:
                assert (waits, runs) == (0, 1)
            elif stream.state is StreamState.STORING:
                assert (waits, runs) == (0, 0)
            elif stream.session is None:
                assert (waits, runs) == (1, 0)
            else:
                assert runs == 0
                assert waits <= 1
        for instance in kernel.drivers.instances:
            assert all(stream in board.live for stream in instance.streams.values())

    @invariant()
    def each_answer_counts_without_gap_or_repetition(self) -> None:
        for number in self.streams:
            text = text_of(self.kernel.heard(number))
            assert text == "".join(f"{token} " for token in range(text.count(" ")))
            end = self.kernel.terminal(number)
            if isinstance(end, Failure) and text:
                assert end.partial

    @invariant()
    def what_waits_is_counted(self) -> None:
        client = self.kernel.client
        assert client.lag == sum(stream.lag for stream in client.streams.values())
        assert client.lag >= 0

    # ---- and in the end ----------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if hasattr(self, "kernel"):
                self.do(self._calm())
                self.nothing_escapes_into_the_loop()
        finally:
            self.do(self._end())
            self.loop.close()
            shutil.rmtree(self.folder)

    async def _calm(self) -> None:
        """Everybody does what is asked; then every swap and every stream must come to its end."""
        kernel = self.kernel
        kernel.database.failing = False
        kernel.obedient = True
        for number in self.streams:
            kernel.switchboard.pause(kernel.client, number, on=False)
        for _ in range(40):
            kernel.pass_back_offs()
            kernel.swaps.give_up_kept()
            for driver in kernel.alive:
                for number in list(driver.streams):
                    driver.finish(number)
            kernel.everybody_obeys()
            await kernel.settle(2)
            if not kernel.switchboard.live and all(swap.done() for swap in self.swaps) and not kernel.swaps._tasks:
                break
        await asyncio.gather(*self.swaps)
        await kernel.settle()
        assert not kernel.swaps._tasks, "a swap does not end"
        assert all(steps[-1] in ENDED for steps in self.steps.values())
        assert all(kernel.terminal(number) for number in self.streams), "a stream has no terminal"
        assert not kernel.client.streams
        assert not kernel.turns._busy
        assert not kernel.drivers.room.claims
        assert all(slot.queue is None for slot in kernel.routes.slots.values())
        bound = {slot.unit for slot in kernel.routes.slots.values()}
        for unit in kernel.drivers.units:
            assert not unit.waiting
            assert not any(name.startswith("(swap") for name in unit.slots), "a reservation was left"
            assert unit in bound or unit.pinned or unit.dead, f"{unit.model.id} stays loaded for nobody"
        if not self.journal_failed:
            assert all(event.state in ENDED for event in await kernel.swaps.history())

    async def _end(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.kill()
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


Swaps.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSwaps = Swaps.TestCase
