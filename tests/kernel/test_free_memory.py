"""Free memory: the machine's, and what control groups of either version leave, however deep we are in them."""

import pytest

from byenatos_kernel.free_memory import free_bytes

MIB = 1 << 20


def machine(root, available_mib=1000, groups=""):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:  {available_mib << 10} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    return root


def group(folder, limit, used_mib, files_mib=0, shared_mib=0, *, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    keys = ("file", "shmem") if version == 2 else ("total_cache", "total_shmem")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used_mib * MIB}\n")
    (folder / "memory.stat").write_text(f"{keys[0]} {files_mib * MIB}\n{keys[1]} {shared_mib * MIB}\n")


def test_without_groups_it_is_what_the_machine_has_available(tmp_path):
    assert free_bytes(machine(tmp_path)) == 1000 * MIB


def test_what_cannot_be_read_bounds_nothing(tmp_path):
    assert free_bytes(tmp_path) > 1 << 50


def test_the_real_machine_has_some():
    assert 0 < free_bytes() < 1 << 50


@pytest.mark.parametrize("mount", ["sys/fs/cgroup", "sys/fs/cgroup/unified"])
def test_a_group_of_version_2_leaves_its_limit_less_what_cannot_be_dropped(tmp_path, mount):
    root = machine(tmp_path, groups="0::/user/kernel\n")
    group(root / mount / "user/kernel", 500 * MIB, 300, 120, 20)
    assert free_bytes(root) == (500 - 300 + 120 - 20) * MIB


def test_the_narrowest_group_above_us_counts(tmp_path):
    root = machine(tmp_path, groups="0::/slice/service/kernel\n")
    top = root / "sys/fs/cgroup"
    group(top / "slice/service/kernel", "max", 50)
    group(top / "slice/service", 200 * MIB, 150)
    group(top / "slice", 400 * MIB, 150)
    assert free_bytes(root) == 50 * MIB


def test_a_group_of_version_1_counts_as_well(tmp_path):
    root = machine(tmp_path, groups="5:cpu:/a\n4:memory:/a\n0::/\n")
    group(root / "sys/fs/cgroup/memory/a", 300 * MIB, 250, 40, 10, version=1)
    assert free_bytes(root) == 80 * MIB


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path):
    root = machine(tmp_path, groups="0::/a\n")
    group(root / "sys/fs/cgroup/a", 100 * MIB, 180)
    assert free_bytes(root) == 0
