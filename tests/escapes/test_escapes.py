"""Every attack of ``attacks.py``, from inside a sandbox with all layers, and outside: a sandbox is worth what it stops.

The control matters as much as the sandbox: an attack that does not work outside either proves nothing, and those are
listed by name, so that a corpus which has stopped to bite is noticed.
"""

import asyncio
import ctypes
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from byenatos_sandbox import Grant, launch
from byenatos_sandbox.layers import LAYERS, missing

HERE = Path(__file__).parent
CEILING_S = 60

_spec = importlib.util.spec_from_file_location("byenatos_test_attacks", HERE / "attacks.py")
assert _spec is not None
assert _spec.loader is not None
attacks = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = attacks
_spec.loader.exec_module(attacks)

DEPENDS_ON_THE_MACHINE = {
    "opens_a_vsock",
    "loads_bpf",
    "counts_performance_events",
    "keeps_a_key_in_the_system",
    "handles_its_own_page_faults",
    "asks_for_io_uring",
    "makes_a_namespace",
    "marks_a_file_outside",
    "poisons_the_interpreter",
    "reads_the_memory_of_the_kernel",
    "traces_the_kernel",
    "raises_its_own_limit",
    "writes_and_runs_code",
    "leaves_its_group",
    "opens_shared_memory",
    "reads_the_environment_of_the_kernel",
    "schedules_a_process_outside",
    "slows_the_kernel",
    "pins_the_kernel",
}
"""What may fail outside as well: where the system forbids it to all, to those who are not root, or to one who is root
without capabilities, as every process of a driver is.
"""


class Outcome:
    """``worked`` is what an attack got, ``None`` if it got nothing; ``ended`` how its process did."""

    def __init__(self, worked: str | None, ended: str) -> None:
        self.worked = worked
        self.ended = ended


async def attack(name: str, prey: dict[str, Any], scratch: Path, *, without: frozenset[str]) -> Outcome:
    files = (prey["granted"],)
    grant = Grant(f"attack/{name}", plugin=str(HERE), files=files, scratch_root=str(scratch), without=without)
    config = json.dumps({"attack": name, "prey": prey}).encode()
    process = launch(grant, entry="attacks:run", config=config)
    heard = b""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CEILING_S):
        while data := await loop.sock_recv(process.channel, 65536):
            heard += data
            if heard.count(b"\n") == 2:
                break
        process.kill()
        end = await process.exited
    process.close()
    lines = heard.splitlines()
    assert lines[:1] == [b"alive"], f"{name} never began: {end.describe()}: {process.output()}"
    outcome = json.loads(lines[1]) if len(lines) == 2 else {}
    return Outcome(outcome.get("worked"), end.describe())


@pytest.fixture
def prey(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What is outside, made anew for each attack."""
    folder = tmp_path / "outside"
    folder.mkdir()
    secret, victim, granted = folder / "secret", folder / "victim", folder / "granted"
    granted.write_text("to read")
    secret.write_text("the secret")
    victim.write_text("untouched")
    victim.chmod(0o644)
    memory = ctypes.create_string_buffer(b"memory")
    with (
        subprocess.Popen(["/bin/sleep", "1000"]) as batch,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as path,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        path.bind(str(folder / "socket"))
        path.listen()
        abstract.bind(f"\0byenatos-escape-{os.getpid()}")
        abstract.listen()
        datagrams.bind(str(folder / "datagrams"))
        os.sched_setscheduler(batch.pid, os.SCHED_BATCH, os.sched_param(0))
        yield {
            "secret": str(secret),
            "victim": str(victim),
            "granted": str(granted),
            "batch": batch.pid,
            "folder": str(folder),
            "socket": str(folder / "socket"),
            "datagrams": str(folder / "datagrams"),
            "abstract": f"byenatos-escape-{os.getpid()}",
            "port": tcp.getsockname()[1],
            "pid": os.getpid(),
            "group": os.getpgrp(),
            "address": ctypes.addressof(memory),
        }
        batch.kill()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}")
@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_gets_nothing(name, prey, scratch):
    outcome = asyncio.run(attack(name, prey, scratch, without=frozenset()))
    assert outcome.worked is None, f"{name} got {outcome.worked}"
    assert Path(prey["victim"]).read_text() == "untouched"
    assert Path(prey["victim"]).stat().st_mode & 0o777 == 0o644
    assert set(os.listdir(prey["folder"])) == {"secret", "victim", "granted", "socket", "datagrams"}
    assert Path(prey["granted"]).read_text() == "to read"


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_without_its_layers_it_works(name, prey, scratch):
    """The control: what is stopped above is stopped by the layers and by nothing else."""
    outcome = asyncio.run(attack(name, prey, scratch, without=frozenset(LAYERS)))
    if name not in DEPENDS_ON_THE_MACHINE:
        assert outcome.worked is not None, f"{name} does not bite: {outcome.ended}"


@pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}")
@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("reads_a_secret", "landlock"),
        ("reads_a_secret", "mount-namespace"),
        ("sends_by_udp", "network-namespace"),
        ("signals_the_kernel", "pid-namespace"),
        ("writes_a_file_outside", "landlock"),
        ("makes_a_file_of_others_readable", "seccomp"),
        ("sends_by_udp", "seccomp"),
        ("forks", "seccomp"),
    ],
)
def test_one_layer_alone_stops_what_is_its_own(name, alone, prey, scratch):
    others = frozenset(LAYERS) - {alone}
    assert asyncio.run(attack(name, prey, scratch, without=others)).worked is None
    nothing = asyncio.run(attack(name, prey, scratch, without=frozenset(LAYERS)))
    assert nothing.worked is not None, "something else stops it as well: the pair says nothing"


@pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}")
def test_a_fatal_call_kills_the_process_and_is_named(prey, scratch):
    outcome = asyncio.run(attack("makes_a_namespace", prey, scratch, without=frozenset()))
    assert outcome.ended.startswith("was killed: it called unshare(0x10000000")
