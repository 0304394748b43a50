"""What must fail is tried inside, whatever layers stop it; what gets through is said, and refused if it is required."""

import asyncio

import pytest

from byenatos_sandbox import launch
from byenatos_sandbox.grant import KINDS
from byenatos_sandbox.layers import LAYERS, missing
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.trial import KINDS as TRIALS

LACKING = sorted(set(missing()) - {"cgroup"})
needs_layers = pytest.mark.skipif(bool(LACKING), reason=f"this machine lacks layers: {', '.join(LACKING)}")


def run(grant, talk, **fields):
    async def main():
        process = launch(grant(**fields), entry="sandbox_entries:leave_with_status", config=b"0")
        end = await talk.end(process)
        process.close()
        return process.open, end

    return asyncio.run(main())


def test_there_is_a_trial_for_each_kind():
    assert tuple(TRIALS) == KINDS


@needs_layers
def test_with_all_layers_nothing_is_open(grant, talk):
    found, end = run(grant, talk, without=frozenset(), required=frozenset(KINDS))
    assert found == {}
    assert end.describe() == "exited with status 0"


def test_without_layers_everything_is_open_and_named(grant, talk):
    found, end = run(grant, talk)
    assert set(found) == set(KINDS)
    assert found["filesystem"] == "/etc/passwd could be opened"
    assert "TCP" in found["network"]
    assert end.status == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_required_and_open_is_refused_before_the_entry_is_imported(grant, talk, kind):
    _, end = run(grant, talk, required=frozenset({kind}))
    assert end.describe().startswith(f"may not run here: it must have {kind} isolation (")


@needs_layers
@pytest.mark.parametrize(
    ("alone", "kinds"),
    [
        ({"landlock"}, {"filesystem"}),
        ({"seccomp"}, {"network", "system-calls", "processes"}),
        (set(NAMESPACES), {"filesystem", "network", "processes", "resources"}),
    ],
)
def test_each_layer_gives_its_kinds_alone(grant, talk, alone, kinds):
    found, _ = run(grant, talk, without=frozenset(LAYERS) - alone)
    assert not kinds & set(found)
