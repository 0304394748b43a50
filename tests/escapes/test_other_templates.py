"""The same attacks from sandboxes that are not alone: made from the shared template, and forked from a sandboxed one.

What these share with each other on purpose, an address layout and a hash seed, is not tried here. One process after the
other comes from the same template, a whole category in one go: what one attack leaves behind the next would find.
"""

import asyncio

import pytest
from arena import NOT_STOPPED_HERE, grant_for, inside
from attacks.corpus import ATTACKS
from attacks.templates import ALIKE

from byenatos_sandbox import Nursery, Preload, Templates, open_nursery
from byenatos_sandbox.layers import missing
from byenatos_sandbox.parts import SENDERS, missing_parts

_ABSENT = missing().keys() - {"cgroup"}
pytestmark = pytest.mark.skipif(bool(_ABSENT), reason=f"this machine lacks layers: {', '.join(_ABSENT)}")

where_forks_are = pytest.mark.skipif(
    SENDERS in missing_parts(), reason="there are no sandboxed templates before Linux 6.5"
)
_PRELOAD = Preload(("attacks.driver", "attacks.corpus"))
TRIED = [attack for attack in ATTACKS.values() if attack.name not in ALIKE | NOT_STOPPED_HERE]
CATEGORIES = list(dict.fromkeys(attack.category for attack in TRIED))


def gotten(category, prey, scratch, *, forked: bool) -> dict[str, object]:
    """What the attacks of a category got, by their names; nothing of those that got nothing."""

    async def main() -> dict[str, object]:
        templates = Templates(warm=0)
        nursery: Nursery | None = None
        found: dict[str, object] = {}
        for attack in (attack for attack in TRIED if attack.category == category):
            if forked and (nursery is None or not nursery.alive):
                nursery = open_nursery(grant_for("template", prey, scratch), preload=_PRELOAD)
            way = {"nursery": nursery} if forked else {"templates": templates}
            outcome = await inside(attack.name, prey, scratch, **way)
            if got := outcome.worked or outcome.broke or prey.harm() or outcome.left:
                found[attack.name] = got
                prey.renew()
        if nursery is not None:
            nursery.close()
            await nursery.process.exited
        templates.close()
        return found

    return asyncio.run(main())


@where_forks_are
@pytest.mark.parametrize("category", CATEGORIES)
def test_an_attack_from_a_fork_of_a_sandboxed_template_gets_nothing(category, prey, scratch):
    assert gotten(category, prey, scratch, forked=True) == {}


@pytest.mark.parametrize("category", CATEGORIES)
def test_an_attack_from_a_sandbox_of_the_shared_template_gets_nothing(category, prey, scratch):
    assert gotten(category, prey, scratch, forked=False) == {}


@where_forks_are
def test_from_such_a_fork_an_attack_works_where_what_stops_it_is_left_out(prey, scratch):
    """The control: nothing above is stopped by the way in which it is made."""

    async def main() -> str | None:
        grant = grant_for("template", prey, scratch, without=frozenset({"seccomp"}))
        nursery = open_nursery(grant, preload=_PRELOAD)
        outcome = await inside("moves_a_file_into_a_pipe", prey, scratch, nursery=nursery)
        nursery.close()
        await nursery.process.exited
        return outcome.worked

    assert asyncio.run(main()) == "4"
