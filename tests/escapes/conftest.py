"""What every attack is made with."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the attacks are a plugin's folder: they import as they do in a sandbox

from arena import Outside, Prey
from ordinary_user import OrdinaryUser


@pytest.fixture(scope="session")
def whole_prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prey]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BYENATOS_ATTACK_KEY", "sk-not-to-be-found")
        prey = Prey(tmp_path_factory.mktemp("prey") / "outside")
        yield prey
        prey.close()


@pytest.fixture(scope="session")
def outside(whole_prey: Prey) -> Iterator[Outside]:
    """Makes attacks in plain processes."""
    control = Outside(whole_prey)
    yield control
    control.close()


@pytest.fixture
def prey(whole_prey: Prey) -> Prey:
    """What is outside, whole."""
    whole_prey.renew()
    return whole_prey


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    # not Python's own: an attack of the control leaves folders that are too deep for it
    subprocess.run(["/bin/rm", "-rf", str(folder)], check=True)


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[OrdinaryUser]:
    """The same tests as an ordinary user, running beside these."""
    run = OrdinaryUser()
    yield run
    run.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the first attack start the other run, whose result is asked for last."""
    asked = [item for item in items if "ordinary_user" in getattr(item, "fixturenames", ())]
    first = next((item for item in items if item.path.name == "test_escapes.py"), None)
    if asked and first is not None and os.getuid() == 0:
        first.fixturenames.append("ordinary_user")
    items.sort(key=lambda item: item in asked)
