"""Instances against drivers that answer wrongly, too late, twice or never."""

import asyncio

import pytest

from byenatos_kernel.channel import DRIVER, URGENT_BYTES
from byenatos_kernel.link import HELLO_TIMEOUT_S
from byenatos_sdk.protocol.errors import DriverCrashed, InvalidRequest
from byenatos_sdk.protocol.frames import MOST_EVENTS, DriverHello, Imported, Ready, Reply, encode
from byenatos_sdk.protocol.messages import InstanceState, ModelHealthStatus, ModelSpecification, TextDelta

NESTED = b"\x91\x92\x01\x96\x01\xa1x\xa1y\xa0\xc2" + b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (b"", "cannot be read"),
        (b"\xc1", "cannot be read"),
        (b"\x91\x92\x01\xa2\xff\xff", "cannot be read: 'utf-8'"),
        (NESTED, "recursion"),
        (b"\x91\x92\x01\x92\x63\x00", "cannot be read"),
        (b"\xdd" + (MOST_EVENTS + 1).to_bytes(4, "big") + b"\xc0" * (MOST_EVENTS + 1), f"at most {MOST_EVENTS} events"),
    ],
)
async def test_a_frame_that_cannot_be_read_costs_the_driver_its_life_and_what_it_said_before_arrives(
    rig, frame, complaint
):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        (stream,) = driver.streams
        driver.wire.send(encode([(stream, "before ")]))
        driver.send_raw(frame)
        await kernel.settle()
        assert not driver.alive
        assert complaint in instance.reason
        assert instance.state is InstanceState.FAILED
        assert kernel.heard(number)[0] == TextDelta("before ")
        assert kernel.terminal(number).code == "driver_crashed"
        assert kernel.terminal(number).partial
        assert not kernel.wire.flush_due, "nothing would ever be sent again"


async def test_a_driver_of_another_major_is_told_and_reported(rig):
    async with rig({}) as kernel:
        unit = kernel.drivers.load(kernel.registry.model("b"))
        instance = unit.instance
        instance._greet(DriverHello(instance._token, (9,)))
        await kernel.settle()
        assert unit.dead
        assert "speaks protocol [9]" in unit.error.message


async def test_a_token_that_was_not_given_out_is_refused(rig):
    async with rig({}) as kernel:
        unit = kernel.drivers.load(kernel.registry.model("b"))
        unit.instance._greet(DriverHello("guessed", (1,)))
        await kernel.settle()
        assert "wrong token" in unit.error.message


async def test_a_specification_that_cannot_be_read_is_a_failed_load(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        kernel.driver("b").tell(0, Ready(b"\x81\xa2id\xa1\xff"))
        with pytest.raises(DriverCrashed, match="cannot be read"):
            await unit.until_ready()


async def test_ready_counts_once_and_importing_again_buys_no_time(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        driver, instance = kernel.driver("b"), kernel.instance("b")
        deadline = instance._deadline.when()
        driver.tell(0, Imported(), Imported())
        await kernel.settle()
        assert instance._deadline.when() == deadline
        driver.loaded()
        driver.tell(0, Ready(encode(ModelSpecification("other"))), Imported())
        await kernel.settle()
        assert instance.state is InstanceState.READY
        assert instance.specification.id == "b"
        assert instance._deadline is None


async def test_settings_that_cannot_travel_fail_the_load_with_a_sentence(rig):
    async with rig({}) as kernel:
        model = kernel.registry.model("b")
        model.settings = {"seed": 1 << 64}
        unit = kernel.drivers.load(model)
        with pytest.raises(InvalidRequest, match="the settings of b cannot be sent to its driver"):
            await unit.until_ready()


async def test_a_driver_that_never_says_hello_has_a_deadline(rig):
    async with rig({}) as kernel:
        unit = kernel.drivers.load(kernel.registry.model("b"))
        deadline = unit.instance._deadline
        assert deadline.when() <= asyncio.get_running_loop().time() + HELLO_TIMEOUT_S
        unit.instance.fail("the handshake took longer than 10 s")  # what the deadline does
        with pytest.raises(DriverCrashed, match=r"(?s)scripted/b the handshake took longer.*last words"):
            await unit.until_ready()


async def test_calls_under_way_and_later_ones_hear_of_the_loss(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.obedient = False
        call = asyncio.create_task(instance.call("health"))
        await kernel.settle()
        driver.exit()
        with pytest.raises(DriverCrashed):
            await call
        with pytest.raises(DriverCrashed):
            await instance.call("health")
        assert not instance._calls._waiting
        assert driver.closed


async def test_an_answer_to_a_call_counts_once_and_only_its_own(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.obedient = False
        call = asyncio.create_task(instance.call("health"))
        await kernel.settle()
        (number,) = driver.health_calls
        driver.tell(number - 1, Reply(b"another's"))
        driver.tell(number, Reply(b"first"), Reply(b"second"))
        assert await call == b"first"


async def test_a_driver_that_does_not_read_can_be_told_nothing_and_is_killed(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.wire._loop.remove_reader(driver.wire._socket.fileno())
        instance.channel.send(bytes(DRIVER.write_limit - 9))
        instance.channel.flush()
        room = DRIVER.write_limit + URGENT_BYTES - instance.channel.buffered
        instance.channel.send(bytes(room), urgent=True)
        slot = kernel.routes.slots["main"]
        slot.unit.slots.clear()
        kernel.drivers.release(slot.unit)
        await kernel.settle()
        assert not driver.alive
        assert not kernel.drivers.units


async def test_a_suspended_instance_is_degraded_until_it_is_heard_of_and_well(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        instance.degrade("no heartbeat")
        assert instance.state is InstanceState.DEGRADED
        assert instance.serving
        assert not instance.recovered
        driver.beat()
        await kernel.settle()
        assert instance.recovered
        instance.health = ModelHealthStatus("degraded")
        assert not instance.recovered
