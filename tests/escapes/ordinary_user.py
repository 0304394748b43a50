"""Runs the tests of the escapes once more, as a user who is not root, beside the run that started it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

__all__ = ["OrdinaryUser"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NOBODY = 65534
_SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


class OrdinaryUser:
    """One run; ``impossible`` says why there is none, if there is none.

    What it takes: an interpreter of this version that others than root may run (the one that runs here is often in
    root's home), and a checkout and installed packages that they may read. The interpreter gets an environment of its
    own, which finds the packages where they are.
    """

    def __init__(self) -> None:
        self.impossible = ""
        self._folder = Path(tempfile.mkdtemp(prefix="byenatos-nobody-"))
        os.chown(self._folder, NOBODY, NOBODY)
        self._log = (self._folder / "log").open("w+b")
        self._run: subprocess.Popen[bytes] | None = None
        python = next((one for one in self._interpreters() if self._works(one)), None)
        if python is None:
            self.impossible = (
                f"expected a Python {sys.version_info.major}.{sys.version_info.minor} and a checkout that others than "
                f"root may read, found none: {self._why}"
            )
            return
        self._run = self._start(
            [
                *(str(python), "-B", "-m", "pytest", str(HERE / "test_escapes.py"), "-q"),
                *("-p", "no:cacheprovider", f"--basetemp={self._folder / 'tests'}"),
            ]
        )

    def result(self, ceiling_s: float) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was printed."""
        assert self._run is not None
        status = self._run.wait(ceiling_s)
        self._log.seek(0)
        return status, self._log.read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        if self._run is not None:
            self._run.kill()
            self._run.wait()
        self._log.close()
        shutil.rmtree(self._folder)

    def _interpreters(self) -> list[Path]:
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        places = [Path(sys.base_prefix, "bin", name), Path("/usr/bin", name), Path("/usr/local/bin", name)]
        return [self._environment(place, number) for number, place in enumerate(places)]

    def _environment(self, interpreter: Path, number: int) -> Path:
        """What `python -m venv` makes, by hand: it would run the interpreter that root's home may hide."""
        folder = self._folder / f"environment{number}"
        (folder / _SITE).mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "bin/python").symlink_to(interpreter)
        (folder / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
        own = sysconfig.get_path("purelib")
        elsewhere = [own, *(one for one in sys.path if one.startswith(str(ROOT)) and one != own)]
        (folder / _SITE / "elsewhere.pth").write_text("\n".join(elsewhere) + "\n")
        return folder / "bin/python"

    def _works(self, python: Path) -> bool:
        trial = self._start([str(python), "-B", "-I", "-c", "import byenatos_kernel.channel, byenatos_sandbox, pytest"])
        status, self._why = trial.wait(), "it cannot import what the tests need"
        return status == 0

    def _start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self._folder), "LANG": "C.UTF-8"}
        try:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
            )
        except OSError:  # hidden from that user, or not there
            return subprocess.Popen(["/bin/false"])
