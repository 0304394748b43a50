"""What must fail is tried inside, whatever layers stop it; what gets through is said, and refused if it is required."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap

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


PROCESS_1 = """
    import asyncio, json, os, sys
    from byenatos_sandbox import Grant, launch
    from byenatos_sandbox.namespaces import unshare
    from byenatos_sandbox.root import mount

    unshare(["mount-namespace", "pid-namespace"])
    if pid := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    mount(None, "/", None, 1 << 18 | 1 << 14)
    mount("proc", "/proc", "proc", 0)

    async def main():
        grant = Grant("test/inner", plugin=sys.argv[1], scratch_root=sys.argv[2], without=frozenset(sys.argv[3:]))
        process = launch(grant, entry="sandbox_entries:leave_with_status", config=b"0")
        await process.exited
        process.close()
        print(json.dumps([os.getpid(), process.open]))

    asyncio.run(main())
"""


@needs_layers
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes process namespaces without more ado")
@pytest.mark.parametrize(("without", "kinds"), [((), set()), (tuple(LAYERS), {"processes"})])
def test_a_kernel_that_is_process_1_is_not_taken_for_the_sandbox_itself(grant, tmp_path, without, kinds):
    command = [sys.executable, "-c", textwrap.dedent(PROCESS_1), grant().plugin, str(tmp_path), *without]
    pid, found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert pid == 1
    assert set(found) & {"processes"} == kinds
