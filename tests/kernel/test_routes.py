"""Where a request's target leads, and what a slot says of itself."""

import pytest

from byenatos_kernel.routes import Slot
from byenatos_sdk.protocol.errors import NotFound, Unavailable


async def test_a_slot_comes_before_a_model_of_its_name(rig):
    async with rig({"a": "b"}) as kernel:
        unit, slot = kernel.routes.resolve("a")
        assert (unit.model.id, slot) == ("b", "a")
        unit, slot = kernel.routes.resolve("b")
        assert (unit.model.id, slot) == ("b", None)


@pytest.mark.parametrize(
    ("target", "error", "sentence"),
    [
        ("default", Unavailable, "slot 'default' is empty; drop a model file into .*models or run `byenatos swap"),
        ("lost", Unavailable, "slot 'lost': gone is not loaded"),
        ("b", Unavailable, "b is not loaded; `byenatos models load b` loads it"),
        ("x", NotFound, "no slot or model 'x'; slots are default, lost, main"),
    ],
)
async def test_what_leads_nowhere_says_what_to_do(rig, target, error, sentence):
    async with rig({"main": "a", "lost": "gone"}) as kernel:
        with pytest.raises(error, match=sentence):
            kernel.routes.resolve(target)


async def test_binding_leaves_the_old_unit_and_says_which(rig):
    async with rig({"main": "a", "side": "a"}) as kernel:
        old = kernel.routes.slots["main"].unit
        new = kernel.drivers.load(kernel.registry.model("b"))
        slot = kernel.routes.slots["main"]
        assert kernel.routes.bind(slot, new) is old
        assert kernel.routes.bind(slot, new) is None
        assert (old.slots, new.slots) == ({"side"}, {"main"})
        assert kernel.routes.bound_to("a") == ("side",)


async def test_a_slot_says_how_it_stands(rig):
    async with rig({}) as kernel:
        slot = Slot("x", "", "")
        assert slot.info.state == "empty"
        slot.model = "b"
        assert slot.info.state == "unavailable"
        kernel.obedient = False
        kernel.routes.bind(slot, kernel.drivers.load(kernel.registry.model("b")))
        await kernel.settle()
        assert slot.info.state == "loading"
        kernel.driver("b").loaded()
        await kernel.settle()
        assert slot.info.state == "ready"
        assert slot.info.epochs == (1,)
        kernel.obedient = True
        for _ in range(4):
            kernel.driver("b").exit()
            await kernel.settle()
            assert slot.info.state == "degraded"
            slot.unit.restart.cancel()
            kernel.drivers._restart(slot.unit)
            await kernel.settle()
            assert slot.info.state == "ready"
        kernel.driver("b").exit()
        await kernel.settle()
        assert slot.info.state == "unavailable"
        assert "quarantined" in slot.info.detail
