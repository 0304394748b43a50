"""Vendors' lists on their way into the registry, with a driver that the test plays."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec.structs import replace

from byenatos_kernel import offers as module
from byenatos_kernel.config import Config, ModelConfig
from byenatos_kernel.offers import MOST_MODELS, Offers
from byenatos_sdk.protocol.control import LoadRequest, ModelChanged, RefreshRequest
from byenatos_sdk.protocol.errors import NotFound, RateLimited, Unavailable, Unsupported
from byenatos_sdk.protocol.frames import Reply, encode
from byenatos_sdk.protocol.messages import Failure, ModelSpecification

HERE = {"base_url": "https://here.test"}
THERE = {"base_url": "https://there.test"}


def models(*names, settings=None, **fields):
    return [ModelSpecification(name, settings=settings or {}, **fields) for name in names]


@pytest.fixture
def refreshing(rig):
    """Run a kernel with slot main on a model, and hand out the lists of the driver that the test plays."""

    @asynccontextmanager
    async def run(**options):
        async with rig(**options) as kernel:
            await kernel.settle()
            yield Refreshing(kernel)

    return run


class Refreshing:
    def __init__(self, kernel):
        self.kernel = kernel
        self.registry = kernel.registry
        self.offers = Offers(kernel.database, kernel.registry, kernel.drivers)
        self.offers.used = lambda name: kernel.registry.in_use(name) or bool(kernel.routes.bound_to(name))

    async def begin(self, driver="scripted"):
        task = asyncio.create_task(self.offers.refresh(RefreshRequest(driver)))
        await self.kernel.settle()
        return task

    async def refresh(self, listed, driver="scripted", model="a"):
        task = await self.begin(driver)
        self.answer(listed, model)
        (report,) = await task
        return report

    def answer(self, listed, model="a"):
        driver = self.kernel.driver(model)
        number, method, _ = driver.calls.pop()
        assert method == "models"
        driver.tell(number, listed if isinstance(listed, Failure | Reply) else Reply(encode(listed)))

    @property
    def states(self):
        return {name: entry.state for name, entry in self.registry.models.items() if entry.offered_at}


async def test_what_a_vendor_offers_can_be_loaded_and_declared_models_stay(refreshing):
    async with refreshing() as one:
        declared = one.registry.model("b")
        report = await one.refresh(models("new", "b", settings=HERE, context_length=4096))
        assert (report.offered, report.added, report.taken, report.left_out) == (2, ("new",), ("b",), 0)
        assert one.registry.model("b") is declared
        assert one.states == {"new": "available"}
        entry = one.registry.model("new")
        assert entry.settings == HERE
        assert entry.info(0, ()).specification.context_length == 4096
        assert entry.info(0, ()).offered_at > 0
        instance = await one.kernel.supply.load(LoadRequest("new", "coder"))
        assert instance.model == "new"


async def test_the_operators_settings_count_for_offered_models_too(refreshing):
    configured = ModelConfig("new", "scripted", max_tokens=7, settings={"x": 1})
    async with refreshing(config=Config(models=[configured])) as one:
        await one.refresh(models("new", settings=HERE))
        entry = one.registry.model("new")
        assert entry.settings == {**HERE, "x": 1}
        assert entry.max_tokens == 7


async def test_what_a_vendor_drops_goes_once_nothing_uses_it(refreshing):
    async with refreshing() as one:
        await one.refresh(models("new", "newer"))
        await one.kernel.supply.load(LoadRequest("newer", "coder"))
        task = await one.begin()
        for model in ("a", "newer"):
            one.answer(models("newest"), model)
            await one.kernel.settle()
        (report,) = await task
        assert (report.added, report.removed) == (("newest",), ("new",))
        assert one.states == {"newer": "available", "newest": "available"}
        with pytest.raises(NotFound):
            one.registry.model("new")


async def test_a_vendor_that_suddenly_offers_nothing_is_not_believed(refreshing):
    async with refreshing() as one:
        await one.refresh(models("new"))
        assert (await one.refresh([])).removed == ()
        assert one.states == {"new": "available"}


async def test_the_lists_of_two_vendors_of_one_driver_do_not_touch_each_other(refreshing):
    async with refreshing() as one:
        await one.refresh(models("new", "both", settings=HERE))
        report = await one.refresh(models("other", "both", settings=THERE))
        assert (report.added, report.removed, report.taken) == (("other",), (), ("both",))
        assert one.registry.model("new").settings == HERE
        assert one.registry.model("both").settings == HERE
        assert one.registry.model("other").settings == THERE


async def test_a_list_is_remembered_in_the_home(refreshing):
    async with refreshing() as one:
        await one.refresh(models("new", settings=HERE))
        at = one.registry.model("new").offered_at
        one.registry.offer("scripted", {})
        await one.kernel.settle()
        assert one.states == {}
        again = Offers(one.kernel.database, one.registry, one.kernel.drivers)
        await again.load()
        assert one.registry.model("new").offered_at == at
        assert one.registry.model("new").settings == HERE


async def test_a_slot_that_waited_for_the_model_gets_it(refreshing):
    async with refreshing(slots={"main": "a", "late": "new"}) as one:
        judged = []
        one.registry.on_judged = judged.append
        await one.refresh(models("new", "newer"))
        assert sorted(entry.id for entry in judged) == ["new", "newer"]
        await one.kernel.supply.judged(one.registry.model("new"))
        assert one.kernel.routes.slots["late"].unit is not None


async def test_a_file_and_a_declaration_come_before_what_a_vendor_elsewhere_calls_by_their_name(
    refreshing, until, tmp_path
):
    async with refreshing() as one:
        await one.refresh(models("one", "d"))
        path = one.registry.folder / "one.toy"
        path.write_text("a toy")
        one.registry.scan()
        await until(lambda: one.registry.models["one"].path == path and one.registry.models["one"].state == "available")
        manifest = tmp_path / "plugins" / "scripted" / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('id = "c"', 'id = "d"'))
        one.registry.scan()
        await one.kernel.shelf.verified()
        assert one.registry.model("d").offered_at == 0
        removed = [
            event.model.reason
            for event in one.kernel.events
            if isinstance(event, ModelChanged) and event.model.id == "one" and event.model.state == "removed"
        ]
        assert removed == ["the file one.toy has its name now"]


async def test_a_list_without_end_is_cut_and_odd_entries_are_left_out(refreshing):
    async with refreshing() as one:
        odd = models("", "line\nbreak", "x" * 257) + models("wide", settings={"x": "y" * 5000})
        wordy = models("wordy", name="n" * 9000, features=frozenset(f"feature {number}" * 9 for number in range(99)))
        many = models(*(f"m{number}" for number in range(MOST_MODELS)))
        report = await one.refresh(odd + wordy + many)
        assert len(one.states) == MOST_MODELS
        assert report.left_out == 5
        assert not one.registry.model("wordy").declared.features
        assert not one.registry.model("m1").declared.metadata


async def test_what_would_take_much_memory_or_could_be_shown_to_nobody_is_left_out(refreshing):
    async with refreshing() as one:
        odd = [
            {"id": "long", "settings": {"x": [[]] * 70_000}},
            {"id": "many", "settings": {"x": [[]] * 70}},
            {"id": "deep", "settings": {"x": [[[[1] * 20] * 2] * 2] * 2}},
            {"id": "no JSON", "settings": {"x": msgspec.msgpack.Ext(5, b"x")}},
            {"id": "bytes", "settings": {"x": b"x"}},
        ]
        report = await one.refresh(Reply(encode([*odd, {"id": "good", "settings": {"base": {"url": ["x", 1, None]}}}])))
        assert report.added == ("good",)
        assert report.left_out == len(odd)


@pytest.mark.parametrize("reply", [Reply(b"\xc1"), Reply(encode([{"id": 1}])), Reply(encode([{"id": "x"}] * 10_001))])
async def test_rubbish_is_refused(refreshing, reply):
    async with refreshing() as one:
        task = await one.begin()
        one.answer(reply)
        with pytest.raises(Unavailable, match="expected a list of models"):
            await task
        assert not one.states


async def test_without_a_name_every_driver_that_serves_is_asked_and_says_what_is_wrong(refreshing):
    async with refreshing() as one:
        report = await one.refresh(Failure("rate_limited", "slowly"), driver="")
        assert (report.driver, report.problem) == ("scripted", "slowly")
        task = await one.begin("")
        one.answer(Failure("unsupported", "no list"))
        assert await task == []


async def test_with_a_name_what_is_wrong_is_an_error(refreshing):
    async with refreshing() as one:
        for failure, kind in (
            (Failure("unsupported", "no"), Unsupported),
            (Failure("rate_limited", "no"), RateLimited),
        ):
            task = await one.begin()
            one.answer(failure)
            with pytest.raises(kind):
                await task
        with pytest.raises(NotFound, match=r"no driver 'nobody'; there is scripted"):
            await one.offers.refresh(RefreshRequest("nobody"))


async def test_where_nothing_is_loaded_a_model_is_for_the_time_of_the_question(refreshing, until):
    async with refreshing(slots={}) as one:
        assert not one.kernel.alive
        report = await one.refresh(models("new"))
        assert report.added == ("new",)
        await until(lambda: not one.kernel.alive)
        assert not one.kernel.drivers.units


async def test_the_first_instance_refreshes_the_list_by_itself_if_the_settings_say_so(refreshing):
    async with refreshing() as one:
        unit = one.kernel.drivers.find("a")
        one.offers.ready(unit)
        await one.kernel.settle()
        assert not one.kernel.driver("a").calls
        unit.model.settings = {"refresh_models": True}
        for _ in range(2):
            one.offers.ready(unit)
            await one.kernel.settle()
        one.answer(models("new"))
        await one.kernel.settle()
        assert one.states == {"new": "available"}
        assert not one.kernel.driver("a").calls


async def test_a_refresh_by_itself_that_fails_is_a_warning_until_one_succeeds(refreshing):
    async with refreshing() as one:
        unit = one.kernel.drivers.find("a")
        unit.model.settings = {"refresh_models": True}
        one.offers.ready(unit)
        await one.kernel.settle()
        one.answer(Failure("unauthenticated", "no key"))
        await one.kernel.settle()
        assert one.offers.warnings == {"scripted": "the list of scripted's models was not refreshed: no key"}
        one.offers.ready(unit)
        await one.kernel.settle()
        one.answer(models("new"))
        await one.kernel.settle()
        assert not one.offers.warnings


async def test_a_vendor_that_never_answers_is_given_up(refreshing, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
    async with refreshing() as one:
        with pytest.raises(Exception, match=r"no list of models within 0\.01 s"):
            await (await one.begin())
        await one.kernel.settle()
        assert one.kernel.driver("a").stopped_calls


def test_a_description_is_kept_without_what_nobody_needs():
    offered = ModelSpecification("m", "liar", "M", "llama", metadata={"a": "b"}, context_length=-1)
    kept = module._within_bounds(offered, "scripted")
    assert kept == replace(ModelSpecification("m"), driver="scripted", name="M")
