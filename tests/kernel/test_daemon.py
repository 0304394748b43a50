"""The command line of the kernel's process."""

import subprocess
import sys
from pathlib import Path

import pytest

from byenatos_kernel import daemon
from byenatos_sdk.home import Home


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--hme", "x"], "option --hme not recognized"),
        (["--home"], "option --home requires argument"),
        (["--attached", "me"], "--attached: expected a process id, found 'me'"),
        (["start"], "expected options, found 'start'"),
    ],
)
def test_a_mistake_is_named_beside_what_there_is(arguments, expected, capsys):
    assert daemon.main(arguments) == daemon.BAD_CONFIGURATION
    assert capsys.readouterr().err == f"{daemon.USAGE}\nbyenatos: {expected}\n"


def test_help_is_no_mistake(capsys):
    assert daemon.main(["--help"]) == 0
    assert capsys.readouterr().out == daemon.USAGE


def run_in(home: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "byenatos_kernel.daemon", "--home", str(home)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("name", ["kernel.lock", "kernel.sock", "scratch"])
def test_what_stands_where_the_kernel_s_own_must_be_is_named(tmp_path, name):
    home = Home(tmp_path / "home")
    home.create()
    if name == "scratch":
        home.scratch.write_text("")
    else:
        (home.run / name).mkdir()
    outcome = run_in(home.path)
    assert outcome.returncode == 1
    assert "Traceback" not in outcome.stderr
    said = outcome.stderr.splitlines()[-1]
    assert said.startswith("byenatos: ")
    assert f"{home.run / name}" in said


def test_a_home_whose_path_is_no_text_is_refused(tmp_path):
    outcome = run_in(tmp_path / "home\udcff")
    assert (outcome.returncode, outcome.stderr.count("\n")) == (1, 1)
    assert "expected a path in UTF-8" in outcome.stderr


def test_a_run_folder_that_is_a_link_is_said_to_be_one(tmp_path):
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.run.symlink_to(tmp_path)
    outcome = run_in(home.path)
    assert outcome.returncode == 1
    assert f"{home.run}: expected a folder, found a link" in outcome.stderr
