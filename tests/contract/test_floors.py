"""The floors of the house: a floor imports only what is below it, and the contract that says so really bites."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("sdk/byenatos_sdk", "sandbox/byenatos_sandbox", "kernel/byenatos_kernel")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources and their contract, to be broken."""
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(house: Path) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(str(house / package.partition("/")[0]) for package in _PACKAGES)
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=house,
        env={**os.environ, "PYTHONPATH": roots, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_floor_imports_only_what_is_below_it(house):
    result = _lint(house)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("sdk/byenatos_sdk/protocol/errors.py", "import byenatos_sdk.home", "Floors of the SDK"),
        ("sdk/byenatos_sdk/driver.py", "import byenatos_sdk.testing", "Floors of the SDK"),
        ("sdk/byenatos_sdk/new_noun.py", "import byenatos_sdk.protocol", "Floors of the SDK"),
        ("sdk/byenatos_sdk/home.py", "import byenatos_sandbox.grant", "Floors"),
        ("sdk/byenatos_sdk/testing/__init__.py", "import byenatos_kernel.units", "Floors"),
        ("sandbox/byenatos_sandbox/grant.py", "import byenatos_sdk.manifest", "The sandbox knows processes"),
        ("sandbox/byenatos_sandbox/launch.py", "import byenatos_kernel", "Floors"),
        ("kernel/byenatos_kernel/daemon.py", "import byenatos_kernel.cli.screen", "The command line is the top floor"),
    ],
)
def test_an_import_from_a_floor_above_is_caught(house, file, line, broken):
    with (house / file).open("a") as source:
        source.write(f"\n{line}\n")
    result = _lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    found = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert len(found) == 1, result.stdout
    assert found[0].startswith(broken)


def test_the_protocol_needs_only_the_standard_library_and_msgspec():
    graph = grimp.build_graph("byenatos_sdk", include_external_packages=True, cache_dir=None)
    imported = {
        target.partition(".")[0]
        for module in graph.modules
        if module.startswith("byenatos_sdk.protocol")
        for target in graph.find_modules_directly_imported_by(module)
    }
    assert imported - sys.stdlib_module_names <= {"msgspec", "byenatos_sdk"}
    assert "msgspec" in imported
