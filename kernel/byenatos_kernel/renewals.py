"""Renewals: what runs is exchanged for the same again: a model reloaded, a driver's version upgraded or rolled back.

All three are one thing: for each model, a unit of the version that counts, tried out, takes the place of the others,
in every slot by a swap, and where an operator keeps the model loaded. An upgrade happens when the operator says so,
never by itself: a new version of a plugin folder is verified and staged beside the old one, what runs stays on the old
one, and only what is started anew gets the new one.

An upgrade is all or nothing. A model that cannot be started or fails its self-test under the new version, or is rolled
back in its probation, makes that version refused until the folder's files change; the models that had been exchanged go
back, to the kept units of the old version where those are still there. A rollback is the same in the other direction,
and holds the newer version back until the operator upgrades again.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.hotswap import HotSwapManager
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.probation import Probation
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.routes import Routes
from byenatos_kernel.supply import Supply
from byenatos_kernel.units import PRELOADED, Unit
from byenatos_kernel.verdicts import Verdict
from byenatos_sdk.protocol.control import DriverRequest, ReloadRequest, Renewal
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Overloaded, Unavailable
from byenatos_sdk.protocol.messages import SwapEvent, SwapRequest, SwapState, SwapStrategy

__all__ = ["Renewals"]

_RESERVATION = "(renewal)"

log = logging.getLogger("byenatos")

_T = TypeVar("_T")


class _Unfit(Exception):
    """A new process of a model cannot serve: ``error`` says why."""

    def __init__(self, model: str, error: ByenatosError) -> None:
        said = error.message.startswith(f"{model} ")
        super().__init__(error.message if said else f"{model}: {error.message}")
        self.error = error


class _Work:
    """What one renewal has done so far."""

    def __init__(self, strategy: SwapStrategy, cause: str) -> None:
        self.strategy = strategy
        self.cause = cause
        self.models: list[str] = []
        self.slots: list[str] = []


class Renewals:
    """Carries them out, for one driver one at a time."""

    def __init__(
        self, registry: ModelRegistry, drivers: DriverManager, routes: Routes, swaps: HotSwapManager, supply: Supply
    ) -> None:
        self._registry = registry
        self._shelf = registry.shelf
        self._drivers = drivers
        self._routes = routes
        self._swaps = swaps
        self._supply = supply
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def reload(self, request: ReloadRequest) -> Renewal:
        """Give a model new processes, wherever it serves.

        Raises:
            NotFound: it is not loaded.
            ByenatosError: why it could not be; what was not exchanged yet serves as before.
        """
        return await self._to_its_end(self._reload(request))

    async def _reload(self, request: ReloadRequest) -> Renewal:
        model = self._registry.model(request.model)
        plugin = self._registry.plugin_for(model)
        if not self._running(model.driver, model.id):
            raise NotFound(f"{model.id} is not loaded; `byenatos models load {model.id}` loads it")
        work = _Work(request.strategy, "reload")
        with _Turn(self._busy, plugin.id):
            try:
                await self._renew(model, [one for one in self._drivers.units if one.model.id == model.id], work)
            except _Unfit as unfit:
                raise unfit.error from None
        return self._told(plugin.verdict, work)

    async def upgrade(self, request: DriverRequest) -> Renewal:
        """Exchange what runs of a driver for the version in its folder; one that was rolled back may run again.

        Raises:
            Unavailable: the version is refused, now or earlier; all runs on the one before.
            ByenatosError: why not all could be exchanged.
        """
        return await self._to_its_end(self._upgrade(request))

    async def _upgrade(self, request: DriverRequest) -> Renewal:
        with _Turn(self._busy, request.driver):
            plugin = self._plugin(request.driver)
            own = self._shelf.own(plugin.id)
            known = self._shelf.versions.find(plugin.id, own.digest)
            if known is not None and known.final:
                raise Unavailable(f"{plugin.id}: {plugin.held}; change its files, which makes it another version")
            if plugin.held:
                await self._shelf.hold(plugin.id, own.digest, "")
                plugin = self._plugin(request.driver)
            work = _Work(request.strategy, f"upgrade of {plugin.id} to {plugin.verdict.version}")
            await self._shelf.try_out(plugin.id, plugin.digest)
            try:
                await self._exchange(plugin.id, plugin.digest, work)
            except _Unfit as unfit:
                version = await self._refuse(plugin, str(unfit))
                raise Unavailable(
                    f"{plugin.id} {plugin.verdict.version} is refused: {unfit}; {version} runs as before"
                ) from None
            finally:
                await self._shelf.try_out(plugin.id, "")
            if why := self._shelf.versions.why_held(plugin.verdict):  # a slot went back while others were exchanged
                raise Unavailable(f"{plugin.id}: version {plugin.verdict.version} {why}")
            return self._told(plugin.verdict, work)

    async def roll_back(self, request: DriverRequest) -> Renewal:
        """Exchange what runs of a driver for the version before, and hold the present one back.

        Raises:
            NotFound: there is no version before.
            Unavailable: that cannot serve either; the present one goes on.
        """
        return await self._to_its_end(self._roll_back(request))

    async def _roll_back(self, request: DriverRequest) -> Renewal:
        with _Turn(self._busy, request.driver):
            newer = self._plugin(request.driver)
            before = self._shelf.versions.before(newer.id, newer.digest)
            if before is None:
                raise NotFound(f"{newer.id}: expected a version before {newer.verdict.version}, found none")
            await self._shelf.hold(newer.id, newer.digest, "was rolled back by the operator")
            work = _Work(request.strategy, f"rollback of {newer.id} to {before.version}")
            try:
                await self._exchange(newer.id, before.digest, work)
            except _Unfit as unfit:
                await self._shelf.hold(newer.id, newer.digest, "")
                await self._restore(newer.verdict, work.strategy)
                raise Unavailable(
                    f"{newer.id} {before.version} cannot serve: {unfit}; {newer.verdict.version} goes on"
                ) from None
            return self._told(before, work)

    def rolled_back(self, probation: Probation, reason: str) -> None:
        """A slot went back by itself: if that was an upgrade of its driver, the newer version is refused for it."""
        newer, older = probation.target.plugin, probation.kept.plugin
        counts = self._registry.plugins.get(newer.id)
        own = counts is not None and counts.digest == newer.digest and not counts.held
        if newer.id == older.id and newer.digest != older.digest and own:
            self._begin(self._refuse(newer, reason))

    # ---- private -----------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(task.exception(), ByenatosError):
            log.info("%s", task.exception())  # whoever asked may have left

    async def _to_its_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do what was begun, also if whoever asked for it does not wait any longer."""
        return await asyncio.shield(self._begin(work))

    def _plugin(self, id: str) -> PluginEntry:
        plugin = self._registry.plugins.get(id)
        if plugin is None:
            raise NotFound(f"no plugin {id!r}; there is {', '.join(sorted(self._registry.plugins)) or 'none'}")
        if plugin.manifest is None:
            raise Unavailable(f"{id} is {'being checked' if plugin.checking else f'refused: {plugin.reason}'}")
        return plugin

    def _running(self, driver: str, model: str | None = None) -> list[Unit]:
        """The units that serve models of a driver; those that are kept for a way back are none."""
        return [
            unit
            for unit in self._drivers.units
            if unit.plugin.id == driver and unit.sockets is None and not (unit.leaving or unit.spare)
            and model in {None, unit.model.id}
        ]  # fmt: skip

    async def _refuse(self, plugin: PluginEntry, why: str) -> str:
        """A version has shown that it cannot serve: go back to the one before, everywhere; return which that is."""
        log.warning("%s %s is refused: %s", plugin.id, plugin.verdict.version, why)
        await self._shelf.hold(plugin.id, plugin.digest, f"is refused: {why}", final=True)
        before = self._shelf.versions.before(plugin.id, plugin.digest) or self._plugin(plugin.id).verdict
        await self._restore(before, "graceful")
        return before.version

    async def _restore(self, version: Verdict, strategy: SwapStrategy) -> None:
        """After another version was given up: exchange what runs of it, as far as that goes."""
        work = _Work(strategy, f"rollback of {version.id} to {version.version}")
        try:
            await self._exchange(version.id, version.digest, work)
        except (_Unfit, ByenatosError) as error:
            log.error("not all of %s went back to %s: %s", version.id, version.version, error)

    async def _exchange(self, id: str, digest: str, work: _Work) -> None:
        """Exchange all that runs another version of a driver than this one, which counts meanwhile."""
        self._shelf.pin(id, digest)
        try:
            models = {unit.model.id: unit.model for unit in self._running(id) if unit.plugin.digest != digest}
            for model in models.values():
                if model.state == "available":
                    others = [unit for unit in self._drivers.units if unit.plugin.digest != digest]
                    await self._renew(model, [one for one in others if one.model.id == model.id], work)
        finally:
            self._shelf.pin(id, "")

    async def _renew(self, model: ModelEntry, old: list[Unit], work: _Work) -> None:
        """Exchange the ``old`` units of a model, in every slot, and where an operator or the preloading keeps them."""
        avoid = set(old)
        work.models.append(model.id)
        for slot in list(self._routes.slots.values()):
            if slot.unit in avoid:
                await self._swap(slot.name, model, avoid, work)
        for unit in [unit for unit in old if (unit.pinned or PRELOADED in unit.slots) and not unit.leaving]:
            try:
                target = self._drivers.living(model.id, but=avoid) or self._drivers.load(model, overlap=1)
            except Overloaded:
                if unit.pinned:
                    raise
                unit.slots.discard(PRELOADED)  # nobody uses it: it may be preloaded again
                self._drivers.release(unit)
                continue
            target.slots.add(_RESERVATION)
            try:
                await self._swaps.try_out(target)
                self._supply.replaced(unit, target)
            except ByenatosError as error:
                raise _Unfit(model.id, error) from None
            finally:
                target.slots.discard(_RESERVATION)
                self._drivers.release(target)

    async def _swap(self, slot: str, model: ModelEntry, avoid: set[Unit], work: _Work) -> None:
        steps: list[SwapState] = []

        def observe(event: SwapEvent) -> None:
            steps.append(event.state)

        try:
            request = SwapRequest(slot, model.id, work.strategy, work.cause)
            await self._swaps.swap(request, observe, avoid=avoid)
        except ByenatosError as error:
            if steps[-2:] == [SwapState.PREPARING, SwapState.FAILED]:
                raise _Unfit(model.id, error) from None
            raise
        work.slots.append(slot)

    @staticmethod
    def _told(verdict: Verdict, work: _Work) -> Renewal:
        return Renewal(verdict.id, verdict.version, verdict.digest, tuple(work.models), tuple(work.slots))


class _Turn:
    """The time in which nothing else may be renewed of a driver."""

    def __init__(self, busy: set[str], driver: str) -> None:
        self._busy = busy
        self._driver = driver

    def __enter__(self) -> None:
        if self._driver in self._busy:
            raise InvalidRequest(f"{self._driver} is being reloaded, upgraded or rolled back; wait until that is over")
        self._busy.add(self._driver)

    def __exit__(self, *_: object) -> None:
        self._busy.discard(self._driver)
