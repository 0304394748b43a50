"""The processes under test, started for real and stopped for sure: a kernel in a home of its own, and the baselines."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.bench.load import LoadClient

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import KernelStatus, SlotInfo
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import InferenceRequest, TextDelta, user

__all__ = [
    "OTHER",
    "TARGET",
    "System",
    "cpu_of",
    "describe_machine",
    "echo_request",
    "memory_of",
    "real_kernel",
    "started",
    "until_ready",
]

TARGET = "default"
"""The slot that all systems under test answer on."""
OTHER = "other"
"""A slot of the real kernel that a second driver process serves."""
START_S = 20.0
ENCODES_IN_NS = 55

_PROMPT = "x" * 540


class System:
    """Something that answers on the client protocol, and what it costs."""

    def __init__(self, endpoint: str, process: "subprocess.Popen[bytes]") -> None:
        self.endpoint = endpoint
        self.pid = process.pid
        self._observer = LoadClient(endpoint)

    def client(self) -> LoadClient:
        """Connect another client."""
        return LoadClient(self.endpoint)

    def status(self) -> KernelStatus:
        """Ask the kernel how it is; ``cpu_s`` is the CPU time of its main thread."""
        return msgspec.msgpack.decode(self._observer.call("status"), type=KernelStatus)

    def call(self, method: str, parameters: msgspec.Struct | None = None) -> bytes:
        """Call a control method."""
        return self._observer.call(method, parameters)

    def cpu_s(self) -> float:
        """CPU time of the whole process, its ZeroMQ thread included."""
        return cpu_of(self.pid)

    def resident_bytes(self) -> int:
        """Memory that is resident now."""
        return memory_of(self.pid, "VmRSS")

    def peak_bytes(self) -> int:
        """The most memory that was resident since :meth:`forget_peak`."""
        return memory_of(self.pid, "VmHWM")

    def forget_peak(self) -> None:
        """Begin to look for the peak anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", "ascii")

    def close(self) -> None:
        """Close the observing client."""
        self._observer.close()


def cpu_of(pid: int) -> float:
    """Return the CPU time of all threads of a process, in seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks) / 1e9


def memory_of(pid: int, key: str) -> int:
    """Look a process's memory up by its name in ``/proc/<pid>/status``; in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


def describe_machine() -> str:
    """Say what the figures were measured on. How fast it encodes is for orientation: figures do not scale with it."""
    delta = TextDelta("token ")
    fastest = min(timeit.repeat(lambda: encode(delta), number=1000, repeat=100, timer=time.thread_time_ns)) / 1000
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}; "
        f"encodes a delta in {fastest:.0f} ns ({ENCODES_IN_NS} where the targets were set)"
    )


def echo_request(**behaviour: object) -> bytes:
    """Build a request of about 1 KB (with a reply of 400 characters) that tells the echo driver what to do."""
    return encode(InferenceRequest((user(_PROMPT),), extra={"echo": behaviour}))


@contextmanager
def started(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Python module as a process; end it at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        except BaseException:
            log.seek(0)
            sys.stderr.write(f"--- {' '.join(command)} printed:\n{log.read().decode(errors='replace')}\n")
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def real_kernel(
    *, other: bool = False, models: Mapping[str, object] | None = None, fronts: Mapping[str, object] | None = None
) -> Iterator[System]:
    """Run a kernel in a home of its own, with the echo driver loaded on :data:`TARGET` and perhaps on :data:`OTHER`.

    ``models`` are further models of the echo driver with their settings, each in a slot of its name.
    """
    models = models or {}
    slots = {name: name for name in models} | ({OTHER: "echo-two"} if other else {})
    configured = {
        "llm_driver_config": {"default_model": "echo"},
        "slots": slots,
        "model_config": [{"model_id": name, "vendor": "echo", "settings": one} for name, one in models.items()],
        "fronts": fronts or {},
    }
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as folder:
        home = Home(folder)
        home.config.write_text(json.dumps(configured), "utf-8")
        with started("byenatos_kernel.daemon", "--home", folder) as process:
            system = System(home.endpoint, process)
            try:
                until_ready(system)
                yield system
            finally:
                system.close()


def until_ready(system: System) -> None:
    """Wait until every slot serves."""
    end = time.monotonic() + START_S
    while any(slot.state != "ready" for slot in msgspec.msgpack.decode(system.call("slots"), type=list[SlotInfo])):
        if time.monotonic() > end:
            raise TimeoutError(f"a driver was not ready after {START_S:.0f} s: {system.status()}")
        time.sleep(0.02)
