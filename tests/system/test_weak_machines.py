"""On machines that lack layers: doctor, ps and the policy say and do what is said, seen on real machines made weak.

``weak_machine.py`` takes layers away; doctor, a kernel with the echo driver, and ps then run without them.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kernel_process import CEILING_S
from plugin_folder import write_plugin

from byenatos_sandbox.layers import KINDS, LAYERS, missing
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.parts import SENDERS, missing_parts
from byenatos_sdk.client import Client
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import KernelStatus

WEAKEN = str(Path(__file__).parents[1] / "sandbox" / "weak_machine.py")
BYENATOS = [sys.executable, "-m", "byenatos_kernel.cli"]
ORDINARY_USER = 61000
IS_ROOT = os.geteuid() == 0
NOT_WHOLE = bool(set(missing()) - {"cgroup"})
MUST = frozenset({"filesystem", "network", "system-calls"})
LOOK_AGAIN_S = 0.05

ALONE = {
    "user-namespace": {},
    "mount-namespace": {"resources"},
    "pid-namespace": {},
    "network-namespace": {},
    "ipc-namespace": {},
    "uts-namespace": {},
    "cgroup-namespace": {},
    "landlock": {},
    "seccomp": {"system-calls"},
    "cgroup": {},
}
"""Each layer that is taken away, with the kinds of isolation that are open then: no kind hangs on one layer alone, but
for the two that nothing else gives.
"""

AHEAD = """
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    @classmethod
    def preload(cls, model):
        return "a template"

    async def start(self, model):
        self.model = model

    async def infer(self, request):
        yield f"loaded {'here' if self.model.preloaded is None else 'elsewhere'}"
"""

THIRDS = {
    "mount-namespace,landlock,cgroup": {"filesystem", "resources"},
    "network-namespace,seccomp,uts-namespace": {"network", "system-calls"},
    "pid-namespace,landlock,seccomp": {"system-calls"},
    "user-namespace,ipc-namespace,cgroup-namespace": set(),
    "mount-namespace,pid-namespace,network-namespace": {"resources"},
}

pytestmark = [
    pytest.mark.skipif(NOT_WHOLE, reason=f"this machine is weak itself: it lacks {', '.join(missing())}"),
    pytest.mark.skipif(not IS_ROOT, reason="only root can make a machine weak, layer by layer"),
]


class Machine:
    """This machine without ``layers``, as seen by ``user`` (0: by root)."""

    def __init__(self, home: Home, layers: str, user: int = 0) -> None:
        self.home = home
        as_user = ["--user", str(user)] if user else []
        self._prefix = [sys.executable, WEAKEN, *as_user, layers]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*self._prefix, *BYENATOS, "--home", str(self.home.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=CEILING_S, check=False)

    def doctor(self) -> tuple[dict[str, Any], int]:
        outcome = self.run("doctor", "--json")
        assert outcome.returncode in {0, 1}, outcome.stderr
        return json.loads(outcome.stdout), outcome.returncode

    @contextmanager
    def kernel(self) -> Iterator[None]:
        outcome = self.run("up", "--detach")
        assert outcome.returncode == 0, outcome.stderr
        try:
            yield
        finally:
            assert self.run("down").returncode == 0

    def until(self, state: str) -> KernelStatus:
        """The status once the default slot is as it should be."""
        deadline = time.monotonic() + CEILING_S
        with Client(self.home) as client:
            while (status := client.status()).slots[0].state != state:
                assert time.monotonic() < deadline, status
                time.sleep(LOOK_AGAIN_S)
        return status

    def ps(self) -> list[dict[str, Any]]:
        return json.loads(self.run("ps", "--json").stdout)

    @property
    def log(self) -> str:
        return self.home.log.read_text()


@pytest.fixture
def weak() -> Iterator[Callable[..., Machine]]:
    """Make a machine without some layers; ``access`` is what the operator's file says."""
    folder = Path(tempfile.mkdtemp(prefix="byenatos-weak-"))  # pytest's own is closed to other users

    def make(layers: str, *, access: str = "", user: int = 0) -> Machine:
        home = Home(folder)
        home.policies.mkdir()
        home.config.write_text(json.dumps({"llm_driver_config": {"default_model": "echo"}}))
        if access:
            home.access.write_text(access)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)
        return Machine(home, layers, user)

    yield make
    shutil.rmtree(folder)


@pytest.mark.parametrize("layers", [*ALONE, *THIRDS])
def test_without_some_layers(weak, layers):
    """Doctor names what is missing and open; the policy decides by that; ps and the log say what a driver has."""
    opened = set((ALONE | THIRDS)[layers])
    machine = weak(layers)
    found, code = machine.doctor()

    assert {one["name"] for one in found["layers"] if not one["ok"]} == set(layers.split(","))
    assert all(one["why"] and one["fix"] and one["loss"] for one in found["layers"] if not one["ok"])
    assert {one["name"]: one["isolated"] for one in found["kinds"]} == {kind: kind not in opened for kind in KINDS}
    assert all(one["got_through"] for one in found["kinds"] if not one["isolated"])
    assert {one["name"] for one in found["kinds"] if one["required"]} == MUST
    may_run = not opened & MUST
    assert found["drivers_start"] == may_run
    assert code == (0 if may_run else 1)

    with machine.kernel():
        status = machine.until("ready" if may_run else "unavailable")
        listed = machine.ps()
        for name in layers.split(","):
            assert any(f"without {LAYERS[name].words}" in warning for warning in status.warnings)
    if may_run:
        (entry,) = listed
        assert set(entry["instance"]["layers"]) == set(layers.split(","))
        assert set(entry["instance"].get("open", {})) == opened
        assert f"isolation {entry['isolation']}" in machine.log
        assert all(LAYERS[name].words in entry["isolation"] for name in layers.split(","))
        assert all(kind in entry["isolation"].partition(";")[0] for kind in opened)
        assert entry["threads"] > 0
        assert entry["memory_bytes"] > 0
    else:
        assert not listed
        detail = status.slots[0].detail
        assert all(f"{kind} isolation (" in detail for kind in opened & MUST)
        assert "`byenatos doctor`" in detail
        assert "may not run here" in machine.log
        assert "starts again" not in machine.log


def test_with_all_layers_it_is_full_and_says_so(weak):
    machine = weak("")
    found, code = machine.doctor()
    assert all(one["ok"] for one in (*found["layers"], *found["home"]))
    assert all(one["isolated"] for one in found["kinds"])
    assert code == 0
    with machine.kernel():
        machine.until("ready")
        (entry,) = machine.ps()
        found, _ = machine.doctor()
    assert entry["isolation"] == "full"
    assert "isolation full" in machine.log
    assert "is running" in next(one["found"] for one in found["home"] if one["name"] == "kernel")


def test_where_templates_cannot_tell_their_processes_each_loads_its_model_itself(weak):
    """Linux before 6.5: what is missing is named, and a driver that would be forked from a template runs without."""
    machine = weak(SENDERS, access="[plugins]\nunsigned = true\n")
    write_plugin(machine.home, "ahead", AHEAD, extra="preload_model = true")
    found, code = machine.doctor()
    fixes = {one["name"]: one["fix"] for one in found["parts"] if not one["ok"]}
    assert set(fixes) == {SENDERS, *missing_parts()}
    assert fixes[SENDERS] == "use Linux 6.5 or newer"
    assert code == 0
    with machine.kernel():
        machine.until("ready")
        with Client(machine.home) as client:
            client.load("ahead")
            assert client.infer("hello", model="ahead").text == "loaded here"
    assert "starts again" not in machine.log


def test_a_driver_is_not_started_where_it_is_sure_that_it_would_be_refused(weak):
    """No process is made: what the log has is the refusal, not the end of a process."""
    machine = weak("seccomp")
    with machine.kernel():
        machine.until("unavailable")
    assert "there is no system call filter" in machine.log
    assert "epoch 1, pid 0) is failed" in machine.log


def test_a_driver_that_finds_a_required_kind_open_is_not_tried_again(weak):
    """Whether processes are isolated is only found out by a process, which is killed before it runs foreign code."""
    machine = weak(",".join(LAYERS), access='[isolation]\nrequired = ["processes"]\n')
    with machine.kernel():
        status = machine.until("unavailable")
    assert "must have processes isolation (the launching process could be signalled)" in status.slots[0].detail
    assert "starts again" not in machine.log
    assert "is ready" not in machine.log


def test_uncontained_lets_a_driver_run_and_is_said_wherever_one_looks(weak):
    everything = ",".join(layer for layer in LAYERS)
    machine = weak(everything, access="[isolation]\nuncontained = true\n")
    found, code = machine.doctor()
    assert found["uncontained"]
    assert found["drivers_start"]
    assert code == 1
    assert {one["name"] for one in found["kinds"] if not one["isolated"]} == set(KINDS)
    with machine.kernel():
        status = machine.until("ready")
        assert any("uncontained = true" in warning for warning in status.warnings)
        ps = machine.run("ps").stdout
        answer = machine.run("ask", "hello")
    assert "hello" in answer.stdout
    assert (
        "WITHOUT filesystem and network and system-calls and processes and resources isolation; no layer at all" in ps
    )
    assert "uncontained = true" in ps
    assert "isolation WITHOUT filesystem" in machine.log
    assert "uncontained = true" in machine.log


def test_a_driver_that_lacks_what_is_required_from_now_on_is_stopped(weak):
    machine = weak("seccomp", access='[isolation]\nrequired = ["filesystem"]\n')
    with machine.kernel():
        machine.until("ready")
        machine.home.access.write_text('[isolation]\nrequired = ["filesystem", "system-calls"]\n')
        status = machine.until("unavailable")
    assert "was stopped: policies/access.toml requires system-calls isolation now" in machine.log
    assert "there is no system call filter" in status.slots[0].detail


def test_in_a_container_root_has_all_but_its_own_user_namespace(weak):
    machine = weak("container")
    found, code = machine.doctor()
    lack = next(one for one in found["layers"] if not one["ok"])
    assert lack["name"] == "user-namespace"
    assert lack["fix"] == "sysctl user.max_user_namespaces=10000"
    assert code == 0
    with machine.kernel():
        machine.until("ready")


@pytest.mark.parametrize(
    ("layers", "opened"),
    [
        ("", set()),
        ("user-namespaces-off", {"resources"}),
        ("landlock", set()),
        ("user-namespaces-off,landlock", {"filesystem", "resources"}),
        ("seccomp", {"system-calls"}),
    ],
)
def test_an_ordinary_user(weak, layers, opened):
    machine = weak(layers, user=ORDINARY_USER)
    found, _ = machine.doctor()
    assert {one["name"] for one in found["kinds"] if not one["isolated"]} == opened
    absent = {one["name"] for one in found["layers"] if not one["ok"]}
    assert (set(NAMESPACES) <= absent) == ("user-namespaces-off" in layers)
    may_run = not opened & MUST
    assert found["drivers_start"] == may_run
    with machine.kernel():
        machine.until("ready" if may_run else "unavailable")
        listed = machine.ps()
    assert [set(entry["instance"]["layers"]) for entry in listed] == ([absent] if may_run else [])
