"""The command line of the kernel's process."""

import subprocess
import sys

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


@pytest.mark.parametrize("name", ["kernel.lock", "scratch"])
def test_what_stands_where_the_kernel_s_own_must_be_is_named(tmp_path, name):
    home = Home(tmp_path / "home")
    home.create()
    if name == "scratch":
        home.scratch.write_text("")
    else:
        home.lock.mkdir()
    command = [sys.executable, "-m", "byenatos_kernel.daemon", "--home", str(home.path)]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert outcome.returncode == 1
    said = outcome.stderr.splitlines()[-1]
    assert said.startswith(f"byenatos: {home.path} cannot be used as a home: ")
    assert name in said
