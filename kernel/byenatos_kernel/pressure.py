"""How the machine is doing: memory, pressure, temperature, graphics cards, read when somebody asks.

Sources: ``/proc/pressure`` (pressure stall information: the share of the last ten seconds, in percent, in which some
task waited for the resource), ``MemAvailable`` of ``/proc/meminfo``, the sensors of ``hwmon``, and NVIDIA's NVML where
the package ``pynvml`` is installed. What a machine does not have is said, and never taken for a value.
"""

import importlib
from pathlib import Path
from typing import Any

from msgspec import Struct

__all__ = ["Machine", "Reading"]


class Reading(Struct, frozen=True):
    """What was measured. Without a ``value`` there was nothing to measure, or ``problem`` says why it cannot be."""

    value: float | None
    problem: str = ""


class Machine:
    """This machine. ``proc`` and ``sensors`` are where the operating system shows it."""

    def __init__(self, proc: Path = Path("/proc"), sensors: Path = Path("/sys/class/hwmon")) -> None:
        self._proc = proc
        self._sensors = sensors
        self._nvml: Any = None

    def read(self, measure: str) -> Reading:
        """Read a measure of ``trigger_rules.MEASURES["resource"]``."""
        match measure:
            case "memory_available_mib":
                return self._memory()
            case "temperature_c":
                return self._temperature()
            case "gpu_memory_free_mib":
                return self._gpu_memory()
            case _:
                return self._pressure(measure.removesuffix("_pressure"))

    def _memory(self) -> Reading:
        path = self._proc / "meminfo"
        try:
            fields = dict(line.split(":", 1) for line in path.read_text("ascii").splitlines())
            return Reading(int(fields["MemAvailable"].split()[0]) / 1024)
        except (OSError, ValueError, LookupError) as error:
            return _unreadable(path, error)

    def _pressure(self, resource: str) -> Reading:
        path = self._proc / "pressure" / resource
        try:
            some = path.read_text("ascii").splitlines()[0]
            averages = dict(word.split("=") for word in some.split()[1:])
            return Reading(float(averages["avg10"]))
        except (OSError, ValueError, LookupError) as error:
            return _unreadable(path, error)

    def _temperature(self) -> Reading:
        """The hottest sensor; one that cannot be read just now is passed over."""
        hottest: float | None = None
        for path in self._sensors.glob("*/temp*_input"):
            try:
                degrees = int(path.read_text("ascii")) / 1000
            except (OSError, ValueError):
                continue
            hottest = degrees if hottest is None else max(hottest, degrees)
        return Reading(hottest, "" if hottest is not None else f"{self._sensors}: no temperature can be read there")

    def _gpu_memory(self) -> Reading:
        """What is free on the card that has the least."""
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")  # installed where there are such cards
            except ImportError:
                return Reading(None, "the package pynvml is not installed: pip install nvidia-ml-py")
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            try:
                free = [
                    int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(number)).free)
                    for number in range(nvml.nvmlDeviceGetCount())
                ]
            finally:
                nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            return Reading(None, f"no graphics card can be read: {error}")
        return Reading(min(free) / (1 << 20)) if free else Reading(None, "no graphics card was found")


def _unreadable(path: Path, error: Exception) -> Reading:
    why = error.strerror if isinstance(error, OSError) else f"it has another form than Linux gives it: {error!r}"
    return Reading(None, f"{path} cannot be read: {why}")
