from byenatos_sandbox.layers import KINDS, LAYERS, hopeless, lacks, missing
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.parts import PARTS, missing_parts


def test_nothing_is_hopeless_where_nothing_is_missing():
    assert hopeless(KINDS, ()) == {}


def test_a_kind_is_hopeless_only_when_all_are_missing_that_give_it():
    assert hopeless({"network"}, {"network-namespace"}) == {}
    assert hopeless({"network"}, {"network-namespace", "seccomp"}) == {
        "network": "there is no network namespace and no system call filter"
    }
    assert hopeless({"system-calls", "network"}, {"seccomp"}) == {"system-calls": "there is no system call filter"}


def test_only_what_is_required_is_looked_at():
    assert hopeless({"filesystem"}, {"seccomp"}) == {}


def test_a_layer_gives_only_what_it_works_for_and_every_kind_but_one_has_a_giver():
    assert all(set(layer.gives) <= set(layer.kinds) <= set(KINDS) for layer in LAYERS.values())
    assert set(KINDS) - {kind for layer in LAYERS.values() for kind in layer.gives} == {"processes"}


def test_what_this_machine_lacks_is_named_with_reason_and_remedy():
    assert set(lacks()) <= set(LAYERS)
    assert set(missing()) == set(lacks())
    assert all(lack.why and lack.fix for lack in lacks().values())
    assert set(NAMESPACES) <= set(LAYERS)


def test_parts_that_are_missing_are_named_with_reason_and_remedy():
    assert set(missing_parts()) <= set(PARTS)
    assert all(lack.why and lack.fix for lack in missing_parts().values())
