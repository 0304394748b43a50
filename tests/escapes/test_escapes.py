"""Every attack, from inside a sandbox with all layers, and outside: a sandbox is worth what it stops.

The control matters as much as the sandbox: an attack that does not work outside either proves nothing, and those that
depend on the machine are listed by name with the reason, so that a corpus which has stopped to bite is noticed.
"""

import asyncio

import pytest
from arena import NOT_STOPPED_HERE, Outcome, inside
from attacks.corpus import ATTACKS
from attacks.registry import Attack
from attacks.templates import ALIKE

from byenatos_sandbox.layers import missing

DEPENDS_ON_THE_MACHINE = {attack.name: attack.needs for attack in ATTACKS.values() if attack.needs}
"""What may fail outside as well, and why: the system forbids it to all, to those who are not root, or to one who is
root without capabilities, as every process of a driver and of the control is.
"""
_MOST_GROWN_MIB = 12
_ABOUT_CALLS = ("network", "namespaces", "kernel surface", "flooding")
"""What the egress socket could change: it has two calls answered otherwise, and an interrupted one is let live."""

_ABSENT = missing().keys() - {"cgroup"}  # which an ordinary user seldom has: the others do not rely on it

whole = pytest.mark.skipif(bool(_ABSENT), reason=f"this machine lacks layers: {', '.join(_ABSENT)}")


def _marked(attack: Attack):
    """An attack that works in today's sandbox, or on this machine, is expected to, and noticed when it does not."""
    today = [
        pytest.mark.xfail(reason=f"stopped by {' or '.join(attack.stopped_by)} only"),
        pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    ]
    return pytest.param(attack.name, marks=today if attack.name in NOT_STOPPED_HERE else [])


@whole
@pytest.mark.parametrize("name", [_marked(attack) for attack in ATTACKS.values()])
def test_an_attack_gets_nothing(name, prey, scratch):
    async def twice_where_it_compares() -> tuple[Outcome, Outcome | None]:
        outcome = await inside(name, prey, scratch)
        return outcome, await inside(name, prey, scratch) if name in ALIKE else None

    outcome, twin = asyncio.run(twice_where_it_compares())
    assert outcome.broke is None, f"{name} is wrong itself: {outcome.broke}"
    if twin is not None:
        assert outcome.value is not None
        assert outcome.value != twin.value, f"{name}: both have {outcome.value}"
    else:
        assert outcome.worked is None, f"{name} got {outcome.worked}"
    assert outcome.grown_mib < _MOST_GROWN_MIB, f"{name}: the launching process grew by {outcome.grown_mib:.0f} MiB"
    assert prey.harm() == []
    assert outcome.left == [], "a scratch folder is still there"


@whole
@pytest.mark.parametrize("name", [_marked(one) for one in ATTACKS.values() if one.category in _ABOUT_CALLS])
def test_with_the_egress_socket_an_attack_gets_nothing_either(name, prey, scratch):
    outcome = asyncio.run(inside(name, prey, scratch, egress_socket=True))
    assert outcome.broke is None, f"{name} is wrong itself: {outcome.broke}"
    assert outcome.worked is None, f"{name} got {outcome.worked}"
    assert outcome.grown_mib < _MOST_GROWN_MIB, f"{name}: the launching process grew by {outcome.grown_mib:.0f} MiB"
    assert prey.harm() == []


@pytest.mark.parametrize("name", ATTACKS)
def test_outside_it_works(name, prey, outside, scratch):
    """The control: what gets nothing above is stopped by the sandbox and by nothing else."""

    async def twice() -> tuple[Outcome, Outcome | None]:
        return await outside.make(name, scratch), await outside.make(name, scratch) if name in ALIKE else None

    outcome, twin = asyncio.run(twice())
    assert outcome.broke is None, f"{name} is wrong itself: {outcome.broke}"
    if name not in DEPENDS_ON_THE_MACHINE:
        assert outcome.worked is not None, f"{name} does not bite: {outcome.ended}"
    if twin is not None:
        assert outcome.value == twin.value


@whole
def test_a_fatal_call_kills_the_process_and_is_named(prey, scratch):
    outcome = asyncio.run(inside("makes_a_namespace_of_users", prey, scratch))
    assert outcome.ended.startswith("was killed: it called unshare(0x10000000")
