"""Lies of drivers: what is of the right type and means no good."""

import asyncio
import json
import math

import msgspec
import pytest

from byenatos_kernel.hearsay import (
    LARGEST,
    LONGEST_SENTENCE,
    LONGEST_WORD,
    bounded_failure,
    bounded_finish,
    bounded_health,
    bounded_specification,
)
from byenatos_kernel.instances import MOST_STRAYS
from byenatos_kernel.link import MOST_HEARD, SHORT_REPLY, DriverLink
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable
from byenatos_sdk.protocol.frames import MOST_EVENTS, Beat, Ready, Reply, encode
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InstanceState,
    Logprobs,
    ModelHealthStatus,
    ModelSpecification,
    TokenLogprob,
    Usage,
)

ANSWERED = Finish(
    usage=Usage(3, 5, 1, 1, 2), detail="stop_sequence", stop_sequence="\n", adapted=("top_k was left out",)
)
BEYOND_JSON = {"settings": {"ext": msgspec.msgpack.Ext(5, b"x"), "bytes": b"\xff"}}


@pytest.mark.parametrize("wait_s", [math.inf, -math.inf, math.nan, -1.0, 1e300])
def test_a_wait_that_nobody_could_wait_is_none(wait_s):
    assert bounded_failure(Failure("rate_limited", "slow down", wait_s)) == Failure("rate_limited", "slow down")


@pytest.mark.parametrize("said", [Failure("rate_limited", "slow down", 7.0), Failure("x", "")])
def test_an_honest_failure_passes_as_it_is(said):
    assert bounded_failure(said) == said


@pytest.mark.parametrize("said", [ANSWERED, Finish(), Finish(usage=Usage(None, 1))])
def test_an_honest_end_passes_as_it_is(said):
    assert bounded_finish(said) == said


@pytest.mark.parametrize("code", ["", "Rate limited", "x\nbyenatos: all is well", "\x1b[2J", "c" * 65])
def test_what_is_no_code_is_none(code):
    assert bounded_failure(Failure(code, "slow down")) == Failure("internal", "slow down")


def test_last_words_have_an_end():
    said = bounded_failure(Failure("c" * 1_000_000, "m" * 1_000_000))
    assert len(encode(said)) < 2 * LONGEST_SENTENCE
    said = bounded_finish(Finish(detail="d" * 500_000, stop_sequence="s" * 500_000, adapted=("",) * 500_000))
    assert len(encode(said)) < 2 * LONGEST_SENTENCE


def test_tokens_are_counted_from_nothing_to_what_a_reader_can_read():
    said = bounded_finish(Finish(usage=Usage(-1, 1 << 63, -(1 << 60), 1 << 62, 0)))
    assert said.usage == Usage(0, LARGEST, 0, LARGEST, 0)
    assert bounded_finish(Finish(usage=Usage(None, None))).usage == Usage(None, None)


def test_a_description_is_short_and_can_be_written_as_json():
    said = ModelSpecification(
        "i" * 9999,
        name="n" * 9999,
        features=frozenset(map(str, range(9999))),
        metadata={str(number): "v" * 99 for number in range(9999)},
        size_bytes=-5,
        memory_bytes=1 << 63,
        **BEYOND_JSON,
    )
    kept = bounded_specification(said)
    assert (len(kept.id), len(kept.name), kept.size_bytes, kept.memory_bytes) == (
        LONGEST_WORD,
        LONGEST_WORD,
        0,
        LARGEST,
    )
    assert len(json.dumps(msgspec.to_builtins(kept))) < 100_000


def test_how_one_feels_is_short_and_of_numbers():
    kept = bounded_health(ModelHealthStatus("degraded", "d" * 99_999, {"a": math.nan, "b": 2.0, "c": math.inf}))
    assert kept.metrics == {"b": 2.0}
    assert len(kept.detail) == LONGEST_SENTENCE


async def test_a_client_never_hears_of_an_endless_wait(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        driver = kernel.driver("a")
        (stream,) = driver.streams
        driver.tell(stream, Failure("rate_limited", "x" * 500_000, math.inf))
        await kernel.settle()
        heard = kernel.terminal(number)
        assert heard.code == "rate_limited"
        assert heard.retry_after_s is None
        assert len(heard.message) <= LONGEST_SENTENCE


async def test_a_call_never_hears_of_an_endless_wait(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.obedient = False
        call = asyncio.create_task(instance.call("tokenize", timeout_s=None))
        await kernel.settle()
        driver.tell(driver.calls[-1][0], Failure("rate_limited", "no", math.nan))
        await kernel.settle()
        with pytest.raises(ByenatosError, match="no") as caught:
            await call
        assert caught.value.retry_after_s is None


async def test_a_description_that_no_reader_could_read_does_not_reach_one(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        kernel.driver("b").tell(0, Ready(encode(ModelSpecification("b", features=frozenset("x"), **BEYOND_JSON))))
        instance = await unit.until_ready()
        assert instance.state is InstanceState.READY
        json.dumps(msgspec.to_builtins(instance.info))
        json.dumps(msgspec.to_builtins(unit.model.info(1, ())))


async def test_why_a_model_could_not_be_loaded_is_said_in_a_sentence_with_an_end(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        kernel.driver("b").tell(0, Failure("c" * 300_000, "m" * 300_000))
        with pytest.raises(ByenatosError) as caught:
            await unit.until_ready()
        assert len(caught.value.message) < 2 * LONGEST_SENTENCE


async def test_a_driver_describes_its_own_model_and_nobody_elses(rig):
    async with rig({"main": "a"}) as kernel:
        await kernel.settle()
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        kernel.driver("b").tell(0, Ready(encode(ModelSpecification("a", driver="somebody", name="A"))))
        instance = await unit.until_ready()
        found = instance.specification
        assert (found.id, found.driver, found.name) == ("b", "scripted", "A")
        assert unit.model.info(1, ()).specification.id == "b"


async def test_a_table_that_is_its_own_key_costs_the_driver_its_life_and_nothing_else(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        instance = kernel.instance("b")
        settings = b"\xa8settings\x81\xa1a\x81\x81\xa1b\xa1c\xa1d"  # {"settings": {"a": {{"b": "c"}: "d"}}}
        kernel.driver("b").tell(0, Ready(b"\x82\xa2id\xa1b" + settings))
        await kernel.settle()
        assert instance.state is InstanceState.FAILED
        assert "cannot be read" in instance.reason


async def test_deltas_that_say_nothing_are_not_sent_without_end(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        (stream,) = driver.streams
        for _ in range(MOST_STRAYS // MOST_EVENTS + 1):
            driver.tell(stream, *[""] * MOST_EVENTS)
        await kernel.settle()
        assert not driver.alive
        assert "say nothing" in instance.reason
        assert kernel.terminal(number).code == "driver_crashed"


async def test_some_deltas_may_say_nothing(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        driver = kernel.driver("a")
        (stream,) = driver.streams
        driver.tell(stream, "", "x", "", Finish())
        await kernel.settle()
        assert driver.alive
        assert kernel.terminal(number) == Finish(model="a")


async def test_an_answer_that_would_fill_the_kernels_memory_is_not_read(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.obedient = False
        call = asyncio.create_task(instance.call("health", timeout_s=None))
        await kernel.settle()
        number = driver.calls[-1][0] if driver.calls else driver.health_calls[-1]
        driver.tell(number, Reply(bytes(SHORT_REPLY), True), Reply(b"x"))
        await kernel.settle()
        with pytest.raises(Unavailable, match=f"answered 'health' with {SHORT_REPLY + 1} bytes, of {SHORT_REPLY}"):
            await call
        assert driver.alive


async def test_a_description_that_would_fill_the_kernels_memory_is_not_read(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        instance = kernel.instance("b")
        said = b"\x82\xa2id\xa1b\xa8settings\x81\xa1a\xdd" + SHORT_REPLY.to_bytes(4, "big") + b"\x90" * SHORT_REPLY
        kernel.driver("b").tell(0, Ready(said))
        await kernel.settle()
        assert instance.state is InstanceState.FAILED
        assert instance.reason.startswith("described its model in")


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        (["x"] * MOST_EVENTS, "the kernel had little time for others"),
        ([Logprobs((TokenLogprob("", 0.0),) * 60_000)], "belong to no stream"),
    ],
)
async def test_what_is_for_nobody_takes_little_of_the_kernels_time(rig, events, complaint):
    async with rig() as kernel:
        kernel.ignore_time()  # which forgives; how much time the kernel gets here, beside the driver, is chance
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        frame = encode([(4711, event) for event in events])
        while driver.alive:
            driver.send_raw(frame)
            await kernel.settle(1)
        await kernel.settle()
        assert not driver.alive
        assert complaint in instance.reason
        assert kernel.terminal(number).code == "driver_crashed"


async def test_a_late_word_among_many_of_use_is_not_held_against_anybody(rig):
    async with rig() as kernel:
        kernel.ignore_time()
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        (stream,) = driver.streams
        frame = encode([*[(stream, "x")] * (MOST_EVENTS - 1), (4711, "late")])
        for _ in range(200):
            driver.send_raw(frame)
            await kernel.settle(1)
        assert driver.alive
        assert instance.wasted_s < 0.01
        assert len("".join(event.text for event in kernel.heard(number))) == 200 * (MOST_EVENTS - 1)


async def test_what_was_on_its_way_when_streams_were_stopped_ends_nobody(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver = kernel.driver("a")
        for _ in range(4):
            driver.tell(4711, *["a word of an answer that was stopped "] * MOST_EVENTS)
        await kernel.settle()
        assert driver.alive


async def test_a_process_that_is_only_asked_about_a_file_does_not_talk_without_end(rig):
    async with rig() as kernel:
        await kernel.settle()
        unit = kernel.drivers.units[0]
        link = DriverLink(unit.plugin, unit.grant)
        link.launch({})
        driver = kernel.drivers_made[-1]
        await link.welcomed()
        beats = encode([(0, Beat())] * MOST_EVENTS)
        for _ in range(MOST_HEARD // len(beats) + 2):
            driver.send_raw(beats)
            await kernel.settle(1)
        assert not driver.alive
        assert "and is asked for a few words only" in link.reason
