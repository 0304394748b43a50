import asyncio
import os
import select
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from byenatos_sandbox import cgroup, launch
from byenatos_sandbox.cgroup import Bounds, Group
from byenatos_sandbox.layers import missing

needs_groups = pytest.mark.skipif("cgroup" in missing(), reason=f"{missing().get('cgroup')}")


def settings(monkeypatch, parents, bounds):
    monkeypatch.setattr(cgroup, "_parents", lambda: {name: Path("/groups", name) for name in parents})
    monkeypatch.setattr(cgroup, "_hire_janitor", lambda: -1)
    group = cgroup.name_group(bounds)
    return {Path(folder).parent.name: values for folder, values in group.folders.items()}


def test_version_2_has_one_group_with_all_bounds(monkeypatch):
    assert settings(monkeypatch, ["all"], Bounds(256, 32, 1.5)) == {
        "all": {
            "pids.max": "32",
            "memory.oom.group": "1",
            "memory.max": str(256 << 20),
            "memory.swap.max": "0",
            "cpu.max": "150000 100000",
        }
    }


def test_version_1_has_one_group_for_each_controller(monkeypatch):
    assert settings(monkeypatch, ["memory", "pids", "cpu"], Bounds(256, 32, 0.5)) == {
        "memory": {"memory.limit_in_bytes": str(256 << 20)},
        "pids": {"pids.max": "32"},
        "cpu": {"cpu.cfs_quota_us": "50000"},
    }


def test_what_is_not_bounded_is_not_written(monkeypatch):
    assert settings(monkeypatch, ["all"], Bounds(0, 32)) == {"all": {"pids.max": "32", "memory.oom.group": "1"}}


@pytest.mark.parametrize(
    ("user", "fix"), [(0, "systemd-run --scope -p Deleg"), (1000, "systemd-run --user --scope -p")]
)
def test_where_no_group_is_delegated_there_is_none_and_the_reason_is_said(monkeypatch, user, fix):
    monkeypatch.setattr(cgroup, "_parents", dict)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert cgroup.name_group(Bounds(1, 1)) is None
    assert cgroup.missing().fix.startswith(fix)


@pytest.fixture
def delegated(tmp_path):
    """A copy of what the system shows of a delegated group: no machine without root and version 2 is needed for it."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("17\n18\n")
    (tmp_path / "byenatos-kernel").mkdir()
    (tmp_path / "byenatos-kernel" / "cgroup.procs").write_text("")
    return tmp_path


def test_a_delegated_group_passes_its_controllers_on_and_keeps_no_process(delegated):
    assert cgroup._delegated(delegated)
    assert (delegated / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (delegated / "byenatos-kernel" / "cgroup.procs").read_text() == "18"  # a real one takes each


def test_who_was_moved_out_of_the_way_before_uses_the_same_group(delegated):
    aside = delegated / "byenatos-kernel"
    (aside / "cgroup.controllers").write_text("cpu memory pids\n")
    (aside / "cgroup.subtree_control").write_text("")
    assert cgroup._delegated_group(delegated) == delegated
    assert cgroup._delegated_group(aside) == delegated
    assert not (aside / "byenatos-kernel").exists()


def test_a_group_without_its_controllers_is_not_used(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset\n")
    (tmp_path / "cgroup.procs").write_text("")
    assert not cgroup._delegated(tmp_path)
    assert not cgroup._delegated(tmp_path / "missing")


@needs_groups
def test_a_sandbox_is_in_its_group_and_the_group_is_gone_with_it(grant, talk):
    async def main():
        fields = {"without": frozenset(), "memory_mib": 256, "tasks": 40}
        process = launch(grant(**fields), entry="sandbox_entries:wait", config=b"")
        await talk.answer(process)
        lines = Path(f"/proc/{process.pid}/cgroup").read_text()
        folders = [path for path in Path("/sys/fs/cgroup").glob("**/byenatos-*") if f"{os.getpid()}-" in path.name]
        limits = [(path / "pids.max").read_text().strip() for path in folders if (path / "pids.max").exists()]
        process.kill()
        await talk.end(process)
        process.close()
        return lines, folders, limits

    lines, folders, limits = asyncio.run(main())
    assert f"byenatos-{os.getpid()}-" in lines
    assert limits == ["40"]
    for _ in range(cgroup_tries()):
        if not any(folder.exists() for folder in folders):
            return
        select.select([], [], [], 0.01)
    pytest.fail(f"still there: {[folder for folder in folders if folder.exists()]}")


def cgroup_tries() -> int:
    """A group may be busy for a moment after its last process; a thread removes it then."""
    return 1000


KILLED = """
    import asyncio, os, sys
    from byenatos_sandbox import Grant, launch

    async def main():
        grant = Grant("test/orphan", plugin=sys.argv[1], scratch_root=sys.argv[2])
        process = launch(grant, entry="sandbox_entries:wait_for_ever", config=b"")
        await asyncio.get_running_loop().sock_recv(process.channel, 100)
        os.kill(os.getpid(), 9)

    asyncio.run(main())
"""


@needs_groups
def test_the_groups_of_a_launching_process_that_was_killed_are_removed(grant, tmp_path):
    arguments = [sys.executable, "-c", textwrap.dedent(KILLED), grant().plugin, str(tmp_path)]
    with subprocess.Popen(arguments) as parent:
        parent.wait()
    for _ in range(cgroup_tries()):
        if not list(Path("/sys/fs/cgroup").glob(f"*/byenatos-{parent.pid}-*")):
            return
        select.select([], [], [], 0.01)
    pytest.fail("its groups are still there")


def test_a_group_that_is_made_after_the_first_look_is_removed_too_whatever_its_folder_is_called(monkeypatch, tmp_path):
    """On plain folders: the shell sees no difference."""
    parent = tmp_path / "it's a\\x2dslice $HOME"
    parent.mkdir()
    monkeypatch.setattr(cgroup, "_parents", lambda: {"all": parent})
    janitor = cgroup._hire_janitor.__wrapped__()
    first, late, foreign = (
        parent / name for name in (f"{cgroup._prefix()}1", f"{cgroup._prefix()}2", "byenatos-7-7-7")
    )
    first.mkdir()
    foreign.mkdir()
    os.close(janitor)
    assert gone(first)
    late.mkdir()
    assert gone(late)
    assert foreign.exists()


def gone(folder: Path) -> bool:
    for _ in range(cgroup_tries()):
        if not folder.exists():
            return True
        select.select([], [], [], 0.01)
    return False


def test_what_a_kernel_of_the_same_process_id_left_is_swept_away(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "_parents", lambda: {"all": tmp_path})
    earlier, ours = tmp_path / f"byenatos-{os.getpid()}-1-1", tmp_path / f"{cgroup._prefix()}1"
    earlier.mkdir()
    ours.mkdir()
    cgroup.sweep()
    assert not earlier.exists()
    assert ours.exists()


@needs_groups
def test_what_earlier_kernels_left_is_swept_away_and_nothing_else(tmp_path):
    parents = list(cgroup._parents().values())
    with subprocess.Popen(["/bin/true"]) as dead:
        dead.wait()
    of_dead = Group({str(parent / f"byenatos-{dead.pid}-1-1"): {} for parent in parents})
    of_ours = Group({str(parent / f"{cgroup._prefix()}999999"): {} for parent in parents})
    of_dead.make()
    of_ours.make()
    cgroup.sweep()
    assert not any(Path(folder).exists() for folder in of_dead.folders)
    assert all(Path(folder).exists() for folder in of_ours.folders)
    assert of_ours.remove()
