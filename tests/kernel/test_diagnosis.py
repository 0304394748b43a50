"""What doctor finds in a home; what it finds in machines is tried in ``tests/system/test_weak_machines.py``."""

import pytest

from byenatos_kernel.diagnosis import diagnose
from byenatos_sdk.home import Home


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    home.policies.mkdir(exist_ok=True)
    return home


async def piece(home, name):
    return next(one for one in (await diagnose(home)).home if one.name == name)


async def test_a_home_that_is_as_it_must_be(home):
    found = await diagnose(home)
    assert all(one.ok for one in found.home), found.home
    assert {"run", "access.toml", "profile local-model", "plugin echo"} <= {one.name for one in found.home}


async def test_a_home_that_is_not_there_yet_is_not_made(tmp_path):
    found = await diagnose(Home(tmp_path / "nowhere"))
    assert all(one.ok for one in found.home)
    assert not (tmp_path / "nowhere").exists()


async def test_a_run_folder_that_others_may_enter(home):
    home.run.chmod(0o755)
    found = await piece(home, "run")
    assert not found.ok
    assert found.fix == f"chmod 700 {home.run}"


async def test_a_key_that_others_may_read_is_named_and_not_shown(home, tmp_path):
    key = tmp_path / "acme"
    key.write_text("sk-canary")
    key.chmod(0o644)
    home.access.write_text(f'[secrets.acme]\nfile = "{key}"\n')
    found = await diagnose(home)
    wrong = next(one for one in found.home if one.name == "key acme")
    assert (wrong.ok, wrong.fix) == (False, f"chmod 600 {key}")
    assert not found.healthy
    assert "sk-canary" not in str(found)
    key.chmod(0o600)
    assert (await piece(home, "key acme")).ok


async def test_a_key_that_is_not_there(home, tmp_path):
    home.access.write_text(f'[secrets.acme]\nfile = "{tmp_path}/nothing"\n')
    assert "No such file" in (await piece(home, "key acme")).found


async def test_an_access_file_that_cannot_be_read_keeps_drivers_from_starting(home):
    home.access.write_text("[isolation]\nrequire = []\n")
    found = await diagnose(home)
    assert not found.drivers_start
    assert not found.healthy
    assert "require" in next(one.found for one in found.home if one.name == "access.toml")


async def test_a_profile_that_is_wrong_is_named(home):
    (home.policies / "sandbox").mkdir()
    (home.policies / "sandbox" / "acme.toml").write_text("memory = 3\n")
    found = await piece(home, "profile acme")
    assert not found.ok
    assert "acme.toml" in found.found


async def test_what_is_required_is_told_apart_from_what_is_not(home):
    home.access.write_text('[isolation]\nrequired = ["processes"]\n')
    found = await diagnose(home)
    assert [kind.name for kind in found.kinds if kind.required] == ["processes"]
