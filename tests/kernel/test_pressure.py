"""Readings of the machine: what the operating system's files say, and what they do not have."""

import sys
import types
from pathlib import Path

import pytest

from byenatos_kernel.pressure import Machine, Reading
from byenatos_kernel.trigger_rules import MEASURES

PRESSURE = "some avg10={} avg60=1.00 avg300=2.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.fixture
def machine(tmp_path):
    files = {
        "proc/meminfo": "MemTotal:       8000000 kB\nMemFree: 1 kB\nMemAvailable:    2048000 kB\n",
        "proc/pressure/memory": PRESSURE.format("12.34"),
        "proc/pressure/cpu": PRESSURE.format("56.78"),
        "proc/pressure/io": PRESSURE.format("0.00"),
        "hwmon/hwmon0/temp1_input": "45000\n",
        "hwmon/hwmon1/temp1_input": "71500\n",
        "hwmon/hwmon1/temp2_input": "not now\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return Machine(tmp_path / "proc", tmp_path / "hwmon")


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("memory_available_mib", 2000),
        ("memory_pressure", 12.34),
        ("cpu_pressure", 56.78),
        ("io_pressure", 0),
        ("temperature_c", 71.5),
    ],
)
def test_each_measure_is_read_where_linux_shows_it(machine, measure, value):
    assert machine.read(measure) == Reading(value)


@pytest.mark.parametrize("measure", MEASURES["resource"])
def test_what_a_machine_does_not_have_is_said(tmp_path, monkeypatch, measure):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    reading = Machine(tmp_path / "proc", tmp_path / "hwmon").read(measure)
    assert reading.value is None
    assert str(tmp_path) in reading.problem or "pynvml is not installed" in reading.problem


@pytest.mark.parametrize("text", ["", "some\n", "some avg10=high\n", "some of\n"])
def test_a_file_in_another_form_is_a_problem_and_no_value(tmp_path, machine, text):
    for path in ("meminfo", "pressure/memory"):
        (tmp_path / "proc" / path).write_text(text)
    for measure in ("memory_available_mib", "memory_pressure"):
        reading = machine.read(measure)
        assert (reading.value, "another form" in reading.problem) == (None, True)


@pytest.mark.skipif(not Path("/proc/pressure/memory").exists(), reason="this kernel has no pressure stall information")
def test_this_machine_is_read():
    memory, pressure = Machine().read("memory_available_mib"), Machine().read("memory_pressure")
    assert memory.value is not None
    assert memory.value > 0
    assert pressure.value is not None
    assert 0 <= pressure.value <= 100


class Broken(Exception):
    pass


def nvml(cards: list[int], *, broken: bool = False) -> types.ModuleType:
    """NVML's Python module on a machine with such cards."""
    module = types.ModuleType("pynvml")

    def init() -> None:
        if broken:
            raise Broken("driver not loaded")

    module.NVMLError = Broken
    module.nvmlInit = init
    module.nvmlShutdown = lambda: None
    module.nvmlDeviceGetCount = lambda: len(cards)
    module.nvmlDeviceGetHandleByIndex = lambda number: number
    module.nvmlDeviceGetMemoryInfo = lambda number: types.SimpleNamespace(free=cards[number] << 20)
    return module


@pytest.mark.parametrize(
    ("module", "reading"),
    [
        (nvml([4096, 1024]), Reading(1024)),
        (nvml([]), Reading(None, "no graphics card was found")),
        (nvml([1], broken=True), Reading(None, "no graphics card can be read: driver not loaded")),
    ],
    ids=["two cards", "no card", "no driver"],
)
def test_graphics_cards_are_read_by_nvml(machine, monkeypatch, module, reading):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert machine.read("gpu_memory_free_mib") == reading
