"""``byenatos driver`` and ``byenatos init``, without a kernel: they write what a kernel reads."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from byenatos_kernel.shipped import shipped

MANIFEST = '[plugin]\nid = "acme"\nversion = "{version}"\nentry = "driver:Acme"\n\n[[models]]\nid = "acme"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An author's plugin folder, whose code would leave a trace if anybody ran it."""
    folder = tmp_path / "work" / "acme"
    folder.mkdir(parents=True)
    (folder / "plugin.toml").write_text(MANIFEST.format(version="1.0"))
    (folder / "driver.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    return folder


@pytest.fixture
def signed(run, folder, tmp_path) -> Path:
    """The folder, signed by a publisher whom the home trusts."""
    assert run("driver", "keygen", "acme", "--output", str(tmp_path / "acme.key")).code == 0
    assert run("driver", "sign", str(folder), "--key", str(tmp_path / "acme.key")).code == 0
    assert run("driver", "trust", str(tmp_path / "acme.pub")).code == 0
    return folder


def test_a_home_is_made_with_a_key_and_the_shipped_plugins_are_signed_once(run, home):
    made = json.loads(run("init", "--json").out)
    assert made["new"]
    assert "echo" in made["signed"]
    assert stat.S_IMODE(home.operator_key.stat().st_mode) == 0o600
    assert run("driver", "verify", "echo").out.startswith("echo ")
    again = json.loads(run("init", "--json").out)
    assert (again["new"], again["signed"], again["key"]) == (False, [], made["key"])
    assert "echo" in json.loads(run("init", "--resign", "--json").out)["signed"]


@pytest.mark.parametrize("lost", ["keys/operator.pub", "signatures/echo.sig", "policies/trust/operator.pub"])
def test_a_home_that_was_interrupted_while_it_was_made_is_made_whole(run, home, lost):
    run("init")
    (home.trust / "operator.pub").unlink()  # it is written last
    (home.path / lost).unlink(missing_ok=True)
    assert json.loads(run("init", "--json").out)["new"]
    assert run("driver", "verify", "echo").code == 0


def test_a_key_whose_private_half_was_moved_away_is_not_made_again(run, home):
    run("init")
    home.operator_key.unlink()
    outcome = run("init")
    assert outcome.code == 1
    assert "expected the operator's key, found none" in outcome.error


def test_a_change_to_a_shipped_plugin_is_refused_until_it_is_signed_again(run, tmp_path, monkeypatch):
    plugins = tmp_path / "shipped"
    subprocess.run(["cp", "-r", str(shipped("plugins")), str(plugins)], check=True)
    for module in ("operator_key", "cli.driver", "cli.install"):
        monkeypatch.setattr(f"byenatos_kernel.{module}.shipped", lambda _: plugins)
    run("init")
    assert run("driver", "verify", "echo").code == 0
    with (plugins / "echo" / "driver.py").open("a") as file:
        file.write("\n")
    outcome = run("driver", "verify", "echo")
    assert outcome.code == 1
    assert "driver.py: expected the content that is signed" in outcome.error
    assert "byenatos driver sign echo" in outcome.error
    assert run("driver", "sign", "echo").code == 0
    assert run("driver", "verify", "echo").code == 0


def test_the_way_of_a_plugin_from_its_author_to_its_user(run, home, signed, tmp_path):
    verdict = json.loads(run("driver", "verify", str(signed), "--json").out)
    assert (verdict["publisher"], verdict["version"]) == ("acme", "1.0")
    installed = json.loads(run("driver", "install", str(signed), "--json").out)
    assert installed["digest"] == verdict["digest"]
    assert Path(installed["folder"]) == home.plugins / "acme"
    assert run("driver", "verify", "acme").code == 0
    assert run("driver", "remove", "acme").code == 0
    assert not list(home.plugins.iterdir())
    assert not (tmp_path / "ran").exists()


def test_a_new_version_takes_the_place_of_the_old_at_once(run, home, signed, tmp_path):
    run("driver", "install", str(signed))
    (signed / "plugin.toml").write_text(MANIFEST.format(version="2.0"))
    (signed / "more.py").touch()
    refused = run("driver", "install", str(signed))
    assert refused.code == 1
    assert "acme is refused: more.py: expected only files that are signed" in refused.error
    run("driver", "sign", str(signed), "--key", str(tmp_path / "acme.key"))
    assert run("driver", "install", str(signed)).code == 0
    assert "2.0" in run("driver", "verify", "acme").out
    assert [path.name for path in home.plugins.iterdir()] == ["acme"]


def test_nothing_is_signed_with_a_key_that_has_expired(run, signed, tmp_path):
    before = (signed / "plugin.sig").read_bytes()
    public = tmp_path / "acme.pub"
    public.write_text(re.sub(r"expires = \S+", "expires = 2020-01-01", public.read_text()))
    outcome = run("driver", "sign", str(signed), "--key", str(tmp_path / "acme.key"))
    assert outcome.code == 1
    assert "acme.key: expected a key that can be trusted, found one that expired on 2020-01-01" in outcome.error
    assert (signed / "plugin.sig").read_bytes() == before


def test_an_authors_history_is_not_signed_with_what_is_to_run(run, signed, tmp_path):
    (signed / ".git").mkdir()
    (signed / ".git" / "config").write_text("[remote]\nurl = https://author:token@git.acme.test\n")
    outcome = run("driver", "sign", str(signed), "--key", str(tmp_path / "acme.key"))
    assert outcome.code == 1
    assert ".git/config: expected what is to run, found a file of its history" in outcome.error


def test_what_is_revoked_is_refused_with_the_reason(run, signed, tmp_path):
    key = json.loads(run("driver", "trust", str(tmp_path / "acme.pub"), "--json").out)["id"]
    digest = json.loads(run("driver", "verify", str(signed), "--json").out)["digest"]
    assert run("driver", "revoke", digest, 'it "deletes" files').code == 0
    assert 'revoked: it "deletes" files' in run("driver", "verify", str(signed)).error
    assert run("driver", "revoke", key, "stolen").code == 0
    assert "revoked: stolen" in run("driver", "verify", str(signed)).error
    assert run("driver", "revoke", "acme", "no").code == 1


def test_an_older_version_can_be_allowed(run, home):
    assert json.loads(run("driver", "allow-downgrade", "acme", "1.0", "--json").out)["allowed"] == ["1.0"]
    assert json.loads(run("driver", "allow-downgrade", "acme", "0.9", "--json").out)["allowed"] == ["0.9", "1.0"]
    assert run("driver", "allow-downgrade", "acme", "old").code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "nothing"), "no plugin 'nothing'; there is alibaba, anthropic"),
        (("verify", "./nothing"), "expected a plugin folder, found none"),
        (("sign", "echo"), "expected the operator's key, found none; byenatos init makes one"),
        (("trust", "/dev/null"), "/dev/null: "),
        (("keygen", "Not A Name", "-o", "x.key"), "publisher: expected"),
        (("keygen", "acme", "-o", "/nowhere/acme.key"), "/nowhere/acme.key: cannot be written"),
        (("remove", "echo"), "echo ships with ByenatOS and stays"),
        (("remove", "../keys"), "no plugin '../keys'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(run, arguments, said):
    outcome = run("driver", *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert said in outcome.error


# ---- packages of a driver's own --------------------------------------------------------------------------------


def write_wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel of one module and return its SHA-256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def locked(run, folder, tmp_path):
    """Write the folder's lock and sign it as the operator."""

    def lock(text: str) -> Path:
        (folder / "requirements.lock").write_text(text)
        if not (tmp_path / "acme.key").exists():
            run("driver", "keygen", "acme", "--output", str(tmp_path / "acme.key"))
            run("driver", "trust", str(tmp_path / "acme.pub"))
        assert run("driver", "sign", str(folder), "--key", str(tmp_path / "acme.key")).code == 0
        return folder

    return lock


def test_the_packages_of_a_lock_are_installed_and_nothing_else(run, home, locked, tmp_path):
    sha256 = write_wheel(tmp_path / "wheels", "bytes_of_acme", "1.0")
    folder = locked(f"bytes_of_acme==1.0 \\\n    --hash=sha256:{sha256}\n")
    missing = run("driver", "verify", str(folder))
    assert "requirements.lock) are not installed: byenatos driver install acme" in missing.error
    outcome = run("driver", "install", str(folder), "--find-links", str(tmp_path / "wheels"))
    assert outcome.code == 0, outcome.error
    environment = Path(json.loads(run("driver", "verify", "acme", "--json").out)["environment"])
    assert environment.parent == home.environments
    code = "import bytes_of_acme; print(bytes_of_acme.version)"
    command = [sys.executable, "-B", "-c", code]
    found = subprocess.run(command, env={"PYTHONPATH": str(environment)}, capture_output=True, check=True)
    assert found.stdout == b"1.0\n"
    assert {path.name for path in home.environments.iterdir()} == {environment.name, f"{environment.name}.seal"}
    assert not os.access(environment / "bytes_of_acme.py", os.W_OK) or os.geteuid() == 0


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("bytes_of_acme==1.0\n", "hash"),
        (f"bytes_of_acme==1.0 --hash=sha256:{'0' * 64}\n", "HASHES"),
        ("--index-url https://evil.example/\n", "expected requirements like"),
        ("./here.whl --hash=sha256:00\n", "expected requirements like"),
        ("bytes_of_acme @ https://evil.example/a.whl --hash=sha256:00\n", "expected requirements like"),
        ("bytes_of_acme==1.0 --global-option=x\n", "and no other option"),
    ],
)
def test_a_lock_that_is_not_one_is_refused_and_leaves_nothing(run, home, locked, tmp_path, lock, said):
    write_wheel(tmp_path / "wheels", "bytes_of_acme", "1.0")
    folder = locked(lock)
    outcome = run("driver", "install", str(folder), "--find-links", str(tmp_path / "wheels"))
    assert outcome.code == 1
    assert said in outcome.error
    assert not list(home.environments.iterdir())
    assert not list(home.plugins.iterdir())
