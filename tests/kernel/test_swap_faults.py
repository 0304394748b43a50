"""A fault at every await of every kind of swap: whatever happens at whichever moment, nothing is lost, nothing stays.

Each way to swap is gone once undisturbed, to count its turns of the loop, and then once for each fault at each turn. By
default a share of the turns is tried; ``pytest -m long`` tries every one.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kernel_rig import manifest
from swap_world import World

from byenatos_sdk.protocol.control import DriverRequest, LoadRequest, MoveOrder, ReloadRequest, UnloadRequest
from byenatos_sdk.protocol.messages import SwapRequest

NEVER = -1
SHARE = 23
"""Which part of the turns is tried by default; each fault begins at another one."""


def swap(strategy: str, model: str = "c", **options: Any) -> Callable[[World], Awaitable[Any]]:
    return lambda world: world.kernel.swaps.swap(SwapRequest("main", model, strategy, until="retired", **options))


async def there_and_back(world: World) -> None:
    await world.kernel.swaps.swap(SwapRequest("main", "c", "immediate"))
    await world.kernel.swaps.back("main")


async def to_one_that_fails(world: World) -> None:
    """The new model takes the slot over, fails what it is asked, and is judged by that."""
    await world.kernel.swaps.swap(SwapRequest("main", "c", "immediate"))
    newest = world.newest
    if newest is not None and newest.model == "c":
        world.refuses.add(newest)
    if world.kernel.swaps._tasks:
        await asyncio.wait(world.kernel.swaps._tasks)


async def reload(world: World) -> None:
    await world.kernel.renewals.reload(ReloadRequest("a"))


async def upgrade(world: World) -> None:
    await _stage(world, "2")
    await world.kernel.renewals.upgrade(DriverRequest("scripted"))


async def upgrade_and_back(world: World) -> None:
    await upgrade(world)
    await world.kernel.renewals.roll_back(DriverRequest("scripted"))


async def _stage(world: World, version: str) -> None:
    folder = world.kernel.shelf.folders[0] / "scripted"
    text = manifest(dict.fromkeys("abc", 40), {})
    (folder / "plugin.toml").write_text(text.replace('version = "1"', f'version = "{version}"'))
    world.kernel.shelf.scan()
    await world.kernel.shelf.verified()


async def load_and_unload(world: World) -> None:
    await world.kernel.supply.load(LoadRequest("c"))
    world.kernel.supply.unload(UnloadRequest("c"))


async def load_into_the_slot(world: World) -> None:
    await world.kernel.supply.load(LoadRequest("c", "main"))


async def move_a_session(world: World) -> None:
    await world.kernel.session_homes.move(MoveOrder("talk", "c"))
    await world.kernel.session_homes.move(MoveOrder("talk"))


async def move_a_running_session(world: World) -> None:
    await world.kernel.session_homes.move(MoveOrder("talk", "c", now=True))
    await world.kernel.session_homes.move(MoveOrder("talk"))


STRATEGIES = ("graceful", "immediate", "session_aware", "background")
WAYS: dict[str, tuple[Callable[[World], Awaitable[Any]], dict[str, Any]]] = {
    **{strategy: (swap(strategy), {}) for strategy in STRATEGIES},
    **{f"{strategy}, one after the other": (swap(strategy), {"narrow": True}) for strategy in STRATEGIES},
    "to a model that serves another slot": (swap("immediate", "b"), {}),
    "there and back": (there_and_back, {"keep_old_s": 600.0}),
    "to one that fails": (to_one_that_fails, {"keep_old_s": 600.0}),
    "reload": (reload, {}),
    "upgrade": (upgrade, {}),
    "upgrade and back": (upgrade_and_back, {}),
    "load and unload": (load_and_unload, {}),
    "move a session": (move_a_session, {}),
    "move a running session": (move_a_running_session, {}),
}
FAULTS: tuple[Callable[[World], Any], ...] = (
    World.source_dies,
    World.target_dies,
    World.all_die,
    World.target_fails_at_all,
    World.target_hangs,
    World.target_talks_rubbish,
    World.source_breaks_down,
    World.clients_leave,
    World.connection_breaks,
    World.swap_is_given_up,
    World.another_swap_is_wanted,
    World.side_is_swapped,
    World.slot_goes_back,
    World.session_is_removed,
    World.disk_is_full,
    World.kernel_dies,
)


def gone(way: str, fault: Callable[[World], Any], at: int) -> int:
    """Go a way with a fault at a turn; return how many turns it had. What cannot be is an assertion."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="swap-faults-", dir=memory if memory.is_dir() else None))
    escaped: list[Any] = []
    walk, options = WAYS[way]

    async def main() -> tuple[int, list[str]]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        world = World(folder, **options)
        async with asyncio.timeout(60):
            await world.start()
            try:
                return await world.run(walk, fault, at), await world.judge()
            finally:
                world.kernel.kill()
                await asyncio.sleep(0)

    try:
        turns, wrong = asyncio.run(main())
    finally:
        shutil.rmtree(folder)
    wrong += [f"only the loop saw it: {context}" for context in escaped]
    assert not wrong, f"{way}, {fault.__name__} at turn {at} of {turns}: " + "; ".join(wrong)
    return turns


@pytest.mark.parametrize("way", WAYS)
def test_whatever_happens_during_a_swap_nothing_is_lost_and_nothing_stays(way):
    turns = gone(way, World.clients_leave, NEVER)
    for number, fault in enumerate(FAULTS):
        for at in range(number % SHARE, turns, SHARE):
            gone(way, fault, at)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_whatever_happens_at_any_turn_of_a_swap_nothing_is_lost_and_nothing_stays(way, fault):
    for at in range(gone(way, fault, NEVER)):
        gone(way, fault, at)


def test_a_slot_joins_a_model_that_was_loaded_for_another_slot_while_its_old_one_left():
    for at in range(20, 48):  # it was once taken for lost when that happened in one of four turns
        gone("graceful, one after the other", World.side_is_swapped, at)
