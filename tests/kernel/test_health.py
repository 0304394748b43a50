"""The health watch: what a driver says of itself, rubbish included, and that the watch goes on."""

import pytest

from byenatos_kernel.health import HealthWatch
from byenatos_sdk.protocol.frames import Reply
from byenatos_sdk.protocol.messages import InstanceState


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (b"\xc1", "the health check failed"),
        (b"\x81\xa6detail\xa1\xff", "the health check failed"),
        (b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0", "the health check failed"),
        (b"\x82\xa6status\xa8degraded\xa6detail\xa5tired", "tired"),
    ],
)
async def test_a_driver_that_is_not_well_is_degraded_and_asked_again(rig, until, reply, complaint):
    async with rig() as kernel:
        await kernel.settle()
        driver, instance = kernel.driver("a"), kernel.instance("a")
        driver.obedient = False
        watch = HealthWatch(kernel.drivers, 0.001)
        watch.start()
        for _ in range(3):
            await until(lambda: driver.health_calls)
            driver.tell(driver.health_calls.pop(), Reply(reply))
        await until(lambda: instance.health.status != "ok")
        assert complaint in instance.health.detail
        assert instance.state is InstanceState.DEGRADED
        driver.obedient = True
        driver.feels("ok")
        await until(lambda: instance.health.status == "ok")
        watch.close()


async def test_an_interval_of_zero_asks_nobody(rig):
    async with rig() as kernel:
        watch = HealthWatch(kernel.drivers, 0)
        watch.start()
        await kernel.settle()
        assert watch._task is None
        watch.close()
