"""The storm: clients that ask, and a script that does damage.

The script is drawn from a seed. When each thing happens is not: processes and sockets have their own time, so a seed
brings the same deeds, and not the same run.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import get_args

from kernel_process import KernelProcess, until, until_ready
from raw_client import RawClient
from tests.chaos.storm.oracle import Oracle
from tests.chaos.storm.play import COUNTING, Play

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.protocol.control import InstanceInfo
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import InstanceState, SwapStrategy

__all__ = ["STRATEGIES", "Storm"]

STRATEGIES: tuple[SwapStrategy, ...] = get_args(SwapStrategy)
STAGED_WITHIN_S = 30.0
SETTLE_S = 90.0
UPGRADES = 25
"""So many swaps of a slot for each exchange of the driver's version."""


class Storm:
    """Over kernels that ``start`` starts, one after the other, on the same home. ``report`` is told of each deed."""

    def __init__(
        self,
        start: Callable[[], KernelProcess],
        seed: int,
        *,
        swaps: int,
        kills: int,
        restarts: int,
        play: Play = COUNTING,
        report: Callable[[Counter[str]], None] = lambda _: None,
    ) -> None:
        self.oracle = Oracle(play)
        self.deeds: Counter[str] = Counter()
        self._start = start
        self._chance = random.Random(seed)
        upgrades = max(1, swaps // UPGRADES) if play.plugin else 0
        self._planned = Counter({"swap": swaps, "kill": kills, "restart": restarts, "upgrade": upgrades})
        self._play = play
        self._version = 1
        self._asked = {slot: asyncio.Event() for slot in ("default", *play.slots)}
        for asked in self._asked.values():
            asked.set()
        self._sessions = [f"talk {number}" for number in range(play.sessions)]
        self._report = report
        self._running = True
        self._kernel = start()
        self._up = asyncio.Event()
        self._up.set()

    async def run(self) -> None:
        """Storm until every planned deed is done, let everything settle, and have the oracle look at it."""
        await self._served()
        async with asyncio.TaskGroup() as group:
            for number in range(self._play.streams):
                group.create_task(self._ask(random.Random(self._chance.random()), number))
            for session in self._sessions:
                group.create_task(self._talk(random.Random(self._chance.random()), session))
            group.create_task(self._damage())
        async with asyncio.timeout(SETTLE_S), self._kernel.client() as client:
            await until(client, lambda status: status.streams == 0)
            for session in self._sessions:
                self.oracle.check_transcript(session, (await client.transcript(session)).turns)

    async def _served(self) -> None:
        """Wait until the slots serve."""
        async with self._kernel.client() as client:
            await until_ready(client, *self._asked)

    # ---- clients -----------------------------------------------------------------------------------------------

    async def _ask(self, chance: random.Random, number: int) -> None:
        """Ask one question after the other; now and then leave in the middle."""
        while self._running:
            await self._up.wait()
            with suppress(ByenatosError):  # the kernel went away while nothing was under way
                async with self._kernel.client() as client:
                    while self._running and self._up.is_set():
                        await self._ask_once(client, chance, number)

    async def _ask_once(self, client: AsyncClient, chance: random.Random, number: int) -> None:
        tokens = self._play.length(chance)
        model = "side" if number % 4 == 3 else "default"
        await self._asked[model].wait()
        stream = client.stream("Count as far as you can.", model=model, **self._play.asks(tokens))
        try:
            if chance.random() < 0.1:
                with suppress(StopAsyncIteration):
                    for _ in range(chance.randrange(1, 20)):
                        await anext(stream)
                await stream.aclose()
                self.oracle.left(stream.text)
                return
            answer = await stream.response()
        except ByenatosError as error:
            self.oracle.failed(error, stream.text)
            await asyncio.sleep(chance.random() * 0.05)
        else:
            self.oracle.answered(tokens, answer.text, len(answer.moves))

    async def _talk(self, chance: random.Random, session: str) -> None:
        """Hold a conversation, turn by turn."""
        asked = False
        while self._running or not asked:
            await self._up.wait()
            with suppress(ByenatosError):
                async with self._kernel.client() as client:
                    while (self._running or not asked) and self._up.is_set():
                        await self._take_turn(client, session, self._play.length(chance))
                        asked = True

    async def _take_turn(self, client: AsyncClient, session: str, tokens: int) -> None:
        await self._asked["default"].wait()
        asked = self.oracle.asks(session, tokens)
        stream = client.session(session).stream(asked.text, **self._play.asks(tokens))
        try:
            answer = await stream.response()
        except ByenatosError as error:
            self.oracle.failed(error, stream.text)
        else:
            asked.answer = answer.text
            self.oracle.answered(tokens, answer.text, len(answer.moves))

    # ---- the script --------------------------------------------------------------------------------------------

    async def _damage(self) -> None:
        """Do what is planned, in a random order, and smaller mischief between."""
        deeds = {
            "swap": self._swap,
            "kill": self._kill,
            "restart": self._restart,
            "upgrade": self._upgrade,
            "halt": self._halt,
            "flood": self._flood,
        }
        try:
            while planned := +self._planned:
                names = [*planned, "halt", "flood"]
                weights = [*planned.values(), 0.05 * planned.total(), 0.02 * planned.total()]
                (name,) = self._chance.choices(names, weights)
                with suppress(ByenatosError):  # what the deed was to be done to has just gone
                    await deeds[name]()
                self._planned[name] -= 1
                self.deeds[name] += 1
                self._report(self.deeds)
        finally:
            self._running = False

    async def _swap(self) -> None:
        slot = self._chance.choice(("default", *self._play.slots))
        model = self._chance.choice(self._play.models)
        strategy = self._chance.choice(STRATEGIES)
        keep_old_s = self._chance.choice((0.0, 0.0, 0.3))
        if strategy == "background":
            self._asked[slot].clear()  # nobody asks for a while, so that the slot falls idle
        try:
            async with self._kernel.client("swapper") as client, asyncio.timeout(self._play.patience_s):
                await client.swap(slot, model, strategy=strategy, keep_old_s=keep_old_s)
        except TimeoutError:
            self.oracle.wrong.append(f"a swap of {slot} to {model} by {strategy} did not come to its end")
        except ByenatosError:
            self.deeds[f"{strategy} failed"] += 1
            raise
        else:
            self.deeds[f"{strategy} done"] += 1
        finally:
            self._asked[slot].set()

    async def _upgrade(self) -> None:
        """Bring a new version of the driver and exchange all that runs of it; sometimes go back."""
        self._version += 1
        self._play.stage(self._kernel.home, self._version)
        plugin, version = self._play.plugin, str(self._version)
        async with self._kernel.client("upgrader") as client:
            async with asyncio.timeout(STAGED_WITHIN_S):
                await until(
                    client,
                    lambda status: any(one.id == plugin and one.version == version for one in status.plugins),
                )
            await client.upgrade_driver(plugin, strategy="immediate")
            self.deeds["upgrade done"] += 1
            if self._chance.random() < 0.5:
                await client.roll_back_driver(plugin, strategy="immediate")
                self.deeds["rollback done"] += 1

    async def _kill(self) -> None:
        victim = await self._victim()
        if victim is not None:
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)

    async def _halt(self) -> None:
        """Suspend a driver; sometimes it is woken again before the kernel has lost its patience."""
        victim = await self._victim()
        if victim is None:
            return
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP)
            if self._chance.random() < 0.5:
                await asyncio.sleep(self._chance.random())
                os.kill(victim.pid, signal.SIGCONT)

    async def _victim(self) -> InstanceInfo | None:
        async with self._kernel.client("killer") as client:
            status = await client.status()
        found = [
            one
            for one in status.instances
            if one.model in self._play.models and one.pid and one.state in {InstanceState.READY, InstanceState.DRAINING}
        ]
        return self._chance.choice(found) if found else None

    async def _flood(self) -> None:
        """A client that asks for streams without end and reads none of them."""
        with RawClient(self._kernel.home) as client:
            client.hello()
            for number in range(1, 5):
                client.open(number, tokens=-1, text="0123456789" * 8)
            await client.aread(lambda: len(client.terminals) == 4)
            for terminals in client.terminals.values():
                if len(terminals) != 1:
                    self.oracle.wrong.append(f"a stream that nobody read: expected one end, found {terminals}")

    async def _restart(self) -> None:
        """Kill the kernel and start the next one on the same home."""
        self._up.clear()
        begin = time.monotonic()
        left = await asyncio.to_thread(self._kernel.kill)
        if left:
            self.oracle.wrong.append(f"a killed kernel left processes behind: {left}")
        self._kernel = await asyncio.to_thread(self._start)
        self.deeds["seconds without a kernel"] += round(time.monotonic() - begin)
        self._up.set()
        await self._served()
