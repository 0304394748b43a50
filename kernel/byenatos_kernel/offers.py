"""What vendors offer beside the models that are declared: heard by their drivers, kept in the home, entered on request.

A driver asks its vendor, in its sandbox; what it says is taken in within bounds, and never over a model that is
declared, configured or a file. What a vendor drops goes with the next refresh, unless something still uses it; a vendor
that suddenly offers nothing is not believed. A driver may have several vendors, by the settings of its models: lists
with other settings do not touch each other.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from byenatos_kernel.database import Database
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.models import Offer
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import ListRefreshed, RefreshRequest
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded, NotFound, Unavailable, Unsupported
from byenatos_sdk.protocol.frames import MAX_REPLY, UNREADABLE, encode
from byenatos_sdk.protocol.messages import ModelSpecification, Value

__all__ = ["Offers"]

MOST_MODELS = 500
"""Of one driver; what a vendor lists first counts."""
LONGEST_ID = 256
MOST_BYTES = 4 << 10
"""Of one model's description."""
MOST_LISTED = 10_000
"""Models of a list that is read at all."""
TIMEOUT_S = 60.0
SETTING = "refresh_models"
"""The setting that has a driver's list refreshed when its first instance is ready."""

LONGEST_DESCRIPTION = 64 << 10
"""Bytes of one in a list that is read at all."""
MOST_VALUES = 64
"""In one model's settings, and of its features: a byte on the wire can be sixty of memory."""


class _Named(Value, frozen=True):
    """What is read of a description that is too long: the rest is passed over."""

    id: str


_List = Annotated[list[msgspec.Raw], Meta(max_length=MOST_LISTED)]
_decode_list: Callable[[bytes], list[msgspec.Raw]] = msgspec.msgpack.Decoder(_List).decode
_decode_name = msgspec.msgpack.Decoder(_Named).decode
_decode_one = msgspec.msgpack.Decoder(ModelSpecification).decode


class Offers:
    """Keeps the lists. Its owner sets ``used``: whether a model has instances or a slot."""

    def __init__(self, database: Database, registry: ModelRegistry, drivers: DriverManager) -> None:
        self.warnings: dict[str, str] = {}
        self.used: Callable[[str], bool] = lambda _: False
        self._database = database
        self._registry = registry
        self._drivers = drivers
        self._busy = asyncio.Lock()
        self._heard: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Take in what is remembered."""
        for driver, offers in (await self._database.run(_read)).items():
            self._registry.offer(driver, offers)

    async def refresh(self, request: RefreshRequest) -> list[ListRefreshed]:
        """Ask the vendor of a driver, or of every driver that has a model loaded, for its list, and enter what is new.

        Raises:
            NotFound: there is no such driver.
            ByenatosError: why the one that was named could not be asked.
        """
        if request.driver and request.driver not in self._registry.plugins:
            known = ", ".join(sorted(self._registry.plugins)) or "none"
            raise NotFound(f"no driver {request.driver!r:.200}; there is {known}")
        serving = dict.fromkeys(unit.plugin.id for unit in self._drivers.units if _answers(unit))
        reports: list[ListRefreshed] = []
        for driver in [request.driver] if request.driver else serving:
            try:
                reports.append(await self._refresh(driver))
            except ByenatosError as error:
                if request.driver:
                    raise
                if isinstance(error, Unsupported):
                    continue
                reports.append(ListRefreshed(driver, problem=error.message))
        return reports

    def ready(self, unit: Unit) -> None:
        """Hear that a unit serves: if it is its driver's first and the settings say so, refresh the list."""
        driver = unit.plugin.id
        if unit.model.settings.get(SETTING) is True and driver not in self._heard:
            self._heard.add(driver)
            task = asyncio.get_running_loop().create_task(self._by_itself(driver))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()

    # ---- private -----------------------------------------------------------------------------------------------

    async def _by_itself(self, driver: str) -> None:
        try:
            await self._refresh(driver)
        except ByenatosError as error:
            self._heard.discard(driver)  # the next instance that becomes ready tries again
            self.warnings[driver] = f"the list of {driver}'s models was not refreshed: {error.message}"

    async def _refresh(self, driver: str) -> ListRefreshed:
        async with self._busy:
            self._heard.add(driver)
            found, offered = await self._ask(driver)
            old = self._registry.offers.get(driver, {})
            offers, taken = self._merged(driver, found, old)
            await self._database.run(lambda connection: _write(connection, driver, offers))
            self._registry.offer(driver, offers)
            self.warnings.pop(driver, None)
        return ListRefreshed(
            driver,
            offered,
            tuple(name for name in offers if name not in old),
            tuple(name for name in old if name not in offers),
            taken,
            max(0, offered - len(taken) - sum(one.id in offers for one in found)),
        )

    async def _ask(self, driver: str) -> tuple[list[ModelSpecification], int]:
        """Return what the vendors of a driver's instances offer, each model once and as far as it can be taken in.

        Also how many models that were in all. Where no instance serves, one is started for the question.
        """
        mine = [unit for unit in self._drivers.units if unit.plugin.id == driver and not unit.leaving]
        units = [unit for unit in mine if _answers(unit)] or [unit for unit in mine if unit.starting][:1]
        started = None if units else self._start(driver)
        found: dict[str, ModelSpecification | None] = {}
        try:
            for unit in units if started is None else [started]:
                for name, one in await _list_of(await unit.until_ready(), driver):
                    found.setdefault(name, one)
        finally:
            if started is not None:
                self._drivers.release(started)
        return [one for one in islice(found.values(), 2 * MOST_MODELS) if one is not None], len(found)

    def _start(self, driver: str) -> Unit:
        """Load a model of a driver's for the time of a question."""
        for entry in self._registry.models.values():
            if entry.driver == driver and entry.path is None and entry.state == "available":
                return self._drivers.load(entry, overlap=1)
        raise Unavailable(f"{driver} has no model that could be loaded to ask its vendor; load one")

    def _merged(
        self, driver: str, found: Iterable[ModelSpecification], old: Mapping[str, Offer]
    ) -> tuple[dict[str, Offer], tuple[str, ...]]:
        """Return what is offered from now on, and the names that something else has."""
        now = time.time()
        heard = {one.id: one for one in found}
        places = {encode(one.settings) for one in heard.values()}
        kept = {
            name: offer
            for name, offer in old.items()
            if encode(offer.specification.settings) not in places or self.used(name)
        }
        offers = dict(kept)
        taken: list[str] = []
        for name, specification in heard.items():
            holder = self._registry.models.get(name)
            other = name in kept and encode(kept[name].specification.settings) not in places
            if other or (holder is not None and holder.state != "removed" and not holder.offered_by(driver)):
                taken.append(name)
            elif name in kept or len(offers) < MOST_MODELS:
                offers[name] = Offer(specification, now)
        return offers, tuple(taken)


def _answers(unit: Unit) -> bool:
    return unit.ready is not None and unit.sockets is None and not unit.leaving


async def _list_of(instance: Instance, driver: str) -> list[tuple[str, ModelSpecification | None]]:
    """Ask for a list; return each name with what can be kept of its description, if anything can."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            listed = _decode_list(await instance.call("models", timeout_s=None, most=MAX_REPLY))
            # one after the other, and each cut at once: all of them as they came may be very much in memory
            return [_taken_in(one, driver) for one in listed]
    except TimeoutError:
        raise DeadlineExceeded(f"{instance.model.id}: no list of models within {TIMEOUT_S:g} s") from None
    except UNREADABLE as error:
        raise Unavailable(f"{instance.model.id}: expected a list of models, found something else: {error}") from None


def _taken_in(listed: msgspec.Raw, driver: str) -> tuple[str, ModelSpecification | None]:
    data = bytes(listed)
    if len(data) > LONGEST_DESCRIPTION:
        return _decode_name(data).id[:LONGEST_ID], None
    found = _decode_one(data)
    return found.id[:LONGEST_ID], _within_bounds(found, driver)


def _within_bounds(offered: ModelSpecification, driver: str) -> ModelSpecification | None:
    """Return a description as it is kept; ``None`` if its name or its settings are not to be had."""
    if not 0 < len(offered.id) <= LONGEST_ID or not offered.id.isprintable() or not _is_plain(offered.settings):
        return None
    plain = ModelSpecification(
        offered.id,
        driver,
        offered.name[:LONGEST_ID],
        context_length=max(0, min(offered.context_length, 1 << 40)),
        features=offered.features if len(offered.features) <= MOST_VALUES else frozenset(),
        settings=offered.settings,
    )
    if len(encode(plain)) > MOST_BYTES:
        plain = replace(plain, name="", features=frozenset())
    return plain if len(encode(plain)) <= MOST_BYTES else None


def _is_plain(settings: dict[str, Any]) -> bool:
    """Whether settings are few, and what JSON has: what else msgpack may carry could be shown to nobody."""
    waiting: list[Any] = [settings]
    for count, one in enumerate(waiting):
        if count > MOST_VALUES:
            return False
        if isinstance(one, dict | list | tuple):
            waiting += islice(one.values() if isinstance(one, dict) else one, MOST_VALUES + 1)
    try:
        return bool(msgspec.json.decode(msgspec.json.encode(settings)) == settings)
    except (TypeError, *UNREADABLE):
        return False


def _read(connection: sqlite3.Connection) -> dict[str, dict[str, Offer]]:
    lists: dict[str, dict[str, Offer]] = {}
    for driver, specification, at in connection.execute("SELECT driver, specification, at FROM offers ORDER BY rowid"):
        one = _decode_one(specification)
        lists.setdefault(driver, {})[one.id] = Offer(one, at)
    return lists


def _write(connection: sqlite3.Connection, driver: str, offers: Mapping[str, Offer]) -> None:
    connection.execute("DELETE FROM offers WHERE driver=?", (driver,))
    rows = [(driver, name, encode(offer.specification), offer.at) for name, offer in offers.items()]
    connection.executemany("INSERT INTO offers VALUES (?, ?, ?, ?)", rows)
