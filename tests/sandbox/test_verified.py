"""Code that was verified is what runs, also where no private root can show it."""

import asyncio
from pathlib import Path

import pytest

from byenatos_sandbox import launch
from byenatos_sandbox.layers import LAYERS, missing

LAYER = "mount-namespace"


@pytest.fixture
def plugin(tmp_path) -> Path:
    """A folder with other code in it than was verified."""
    folder = tmp_path / "plugin"
    (folder / "package").mkdir(parents=True)
    for name in ("speaker.py", "planted.py", "package/__init__.py", "package/inner.py", "package/planted.py"):
        (folder / name).write_text("SAYS = 'changed meanwhile'")
    return folder


def told(grant, talk, plugin, module, tmp_path, **fields):
    code = {
        "sandbox_entries.py": Path(grant().plugin, "sandbox_entries.py").read_bytes(),
        "speaker.py": b"SAYS = 'verified'",
        "package/__init__.py": b"",
        "package/inner.py": b"SAYS = 'verified, too'",
        "spaces/inner.py": b"SAYS = 'without a package'",
    }
    (tmp_path / "scratch").mkdir()

    async def main():
        process = launch(
            grant(plugin=str(plugin), scratch_root=str(tmp_path / "scratch"), **fields),
            entry="sandbox_entries:import_and_tell",
            config=module.encode(),
            code=code,
        )
        try:
            says = (await talk.answer(process))["says"]
        except ConnectionResetError:
            says = ""
        await talk.end(process)
        process.close()
        return says or process.output()[-1]

    return asyncio.run(main())


@pytest.mark.parametrize("without", [LAYERS, (LAYER,)], ids=["without any layer", "without a root of its own"])
@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("speaker", "verified"),
        ("package.inner", "verified, too"),
        ("spaces.inner", "without a package"),
    ],
)
def test_without_a_root_of_its_own_the_verified_code_is_imported(grant, talk, plugin, tmp_path, without, module, says):
    assert told(grant, talk, plugin, module, tmp_path, without=frozenset(without)) == says


@pytest.mark.parametrize("module", ["planted", "package.planted"])
def test_what_was_not_verified_is_not_found(grant, talk, plugin, tmp_path, module):
    assert told(grant, talk, plugin, module, tmp_path) == f"ModuleNotFoundError: No module named '{module}'"


@pytest.mark.skipif("landlock" in missing(), reason="no Landlock here")
def test_a_folder_that_is_reached_through_a_link_is_covered_too(grant, talk, plugin, tmp_path):
    (tmp_path / "link").symlink_to(plugin)
    assert told(grant, talk, tmp_path / "link", "speaker", tmp_path, without=frozenset({LAYER})) == "verified"
