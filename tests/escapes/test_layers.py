"""Each layer is real: alone it stops what is its own, and where no other stands behind it, without it that works.

Which layer stops what is said by the attacks themselves (``stopped_by``); the names there are a reader's, and a few of
them stand for layers that can be left out. Whoever writes a layer's name after an attack is held to it here, as far as
the attacks that are chosen go: one of every category that the layer has a part in.
"""

import asyncio

import pytest
from arena import inside
from attacks.corpus import ATTACKS, NOT_STOPPED_YET
from attacks.templates import ALIKE

from byenatos_sandbox.layers import LAYERS, missing
from byenatos_sandbox.parts import missing_parts

_ABSENT = missing().keys() - {"cgroup"}
pytestmark = pytest.mark.skipif(bool(_ABSENT), reason=f"this machine lacks layers: {', '.join(_ABSENT)}")

STOPPERS = {
    "landlock": {"landlock"},
    "seccomp": {"seccomp"},
    "cgroup": {"cgroup"},
    "private root": {"mount-namespace"},
    "namespaces": {name for name in LAYERS if name.endswith("-namespace")} - {"mount-namespace"},
}
"""The layers behind a stopper's name; a stopper that is not here is in every process and cannot be left out."""

EVERYWHERE = frozenset(LAYERS)


LATER_PARTS = {("landlock", "network"): "landlock-tcp", ("landlock", "processes"): "landlock-scope"}
"""Which part of a layer its own attacks of a category are, where that came with a later kernel."""


def _layers(stoppers) -> set[str]:
    return {layer for stopper in stoppers for layer in STOPPERS.get(stopper, set())} & EVERYWHERE


def _chosen(layer: str, *, only: bool) -> dict[str, str]:
    """One attack a category: that ``layer`` is enough against; ``only``: that no other layer stops."""
    found: dict[str, str] = {}
    for attack in ATTACKS.values():
        behind = _layers(attack.stopped_by)
        beyond = set(attack.stopped_by) - set(STOPPERS)
        if attack.needs or beyond or attack.name in NOT_STOPPED_YET | ALIKE:
            continue
        if LATER_PARTS.get((layer, attack.category)) in missing_parts():
            continue
        if layer in behind and (not only or behind == {layer}):
            found.setdefault(attack.category, attack.name)
    return found


OF_ONE_NAMESPACE = {
    "pid-namespace": ("signals_the_kernel", "finds_processes_by_their_numbers"),
    "network-namespace": ("sends_by_udp", "connects_to_an_abstract_socket"),
}
"""What one namespace alone is enough against: the attacks say "namespaces" for all of them."""

NAMED = [layer for layer in LAYERS if {layer} in STOPPERS.values() and layer not in missing()]
ALONE = [(layer, name) for layer in NAMED for name in _chosen(layer, only=False).values()]
ALONE += [(layer, name) for layer, names in OF_ONE_NAMESPACE.items() for name in names]
ONLY = [(layer, name) for layer in LAYERS if layer not in missing() for name in _chosen(layer, only=True).values()]


@pytest.mark.parametrize(("layer", "name"), ALONE)
def test_a_layer_alone_stops_what_is_its_own(layer, name, prey, scratch):
    outcome = asyncio.run(inside(name, prey, scratch, without=EVERYWHERE - {layer}))
    assert outcome.broke is None
    assert outcome.worked is None, f"{name} is not stopped by {layer} alone: it got {outcome.worked}"
    assert prey.harm() == []


@pytest.mark.parametrize(("layer", "name"), ALONE)
def test_with_no_layer_it_works(layer, name, prey, scratch):
    outcome = asyncio.run(inside(name, prey, scratch, without=EVERYWHERE))
    assert outcome.worked is not None, f"{name} proves nothing about {layer}: {outcome.ended}"


@pytest.mark.parametrize(("layer", "name"), ONLY)
def test_what_one_layer_stops_works_where_that_layer_is_left_out(layer, name, prey, scratch):
    outcome = asyncio.run(inside(name, prey, scratch, without=frozenset({layer})))
    assert outcome.worked is not None, f"{name} is stopped by another layer than {layer}: {outcome.ended}"


def test_every_layer_stops_something_that_is_tried_here():
    assert {layer for layer, _ in ALONE} == set(NAMED) | set(OF_ONE_NAMESPACE)
