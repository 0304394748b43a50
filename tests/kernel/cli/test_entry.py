"""Exit codes and where things are said, without a kernel."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from byenatos_kernel.cli import main
from byenatos_kernel.cli.app import app

COMMANDS_THAT_NEED_A_KERNEL = [
    ("status",),
    ("slots",),
    ("models", "list"),
    ("models", "load", "smollm2"),
    ("models", "unload", "smollm2"),
    ("swap", "default", "smollm2"),
    ("swaps",),
    ("sessions", "list"),
    ("sessions", "show", "abc"),
    ("sessions", "rm", "abc"),
    ("chat",),
    ("ask", "hello"),
    ("events",),
]


def test_help_lists_the_commands_and_the_exit_codes(run):
    outcome = run("--help")
    assert outcome.code == 0
    assert all(command[0] in outcome.out for command in COMMANDS_THAT_NEED_A_KERNEL)
    assert "3 no kernel is running (start one: byenatos up)" in outcome.out


def commands(group, path=()):
    """Every command below a group, with the words that call it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_every_word_that_was_written_for_it(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "1000")
    outcome = run(*command, "--help")
    shown = " ".join(outcome.out.split())
    assert outcome.code == 0
    for one in (COMMANDS[command], *COMMANDS[command].params):
        assert " ".join((one.help or "").split()) in shown


@pytest.mark.parametrize("command", COMMANDS_THAT_NEED_A_KERNEL, ids=" ".join)
def test_without_a_kernel_a_command_exits_with_3_and_says_how_to_start_one(run, command):
    outcome = run(*command)
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.error.startswith("byenatos: no kernel")
    assert "byenatos up" in outcome.error


def test_stopping_without_a_kernel_is_fine(run):
    outcome = run("down")
    assert outcome.code == 0
    assert "no kernel is running" in outcome.out


def test_stopping_without_a_kernel_says_so_in_json(run):
    assert json.loads(run("down", "--json").out) == {"stopped": False, "pid": None}


@pytest.mark.parametrize(
    "command",
    [
        ("nonsense",),
        ("up", "--json"),
        ("swap", "default"),
        ("chat", "--new", "--session", "a"),
        ("swap", "a", "b", "-s", "c"),
        ("swap", "a", "b", "--keep-old", "inf"),
        ("swap", "a", "b", "--keep-old", "nan"),
        ("ask", "hello", "--temperature", "nan"),
        ("up", "--detach", "--wait", "nan"),
        ("down", "--wait", "nan"),
        ("down", "--wait", "inf"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run, command):
    outcome = run(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage" in outcome.error


def test_a_good_configuration_is_ok_and_names_what_is_not_in_force(run, home):
    home.config.parent.mkdir(parents=True)
    home.config.write_text('{"llm_driver_config": {"default_model": "smollm2", "load_balance_strategy": "even"}}')
    outcome = run("config", "check")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == f"{home.config}: ok"
    assert "load_balance_strategy is not yet in force" in outcome.out
    assert json.loads(run("config", "check", "--json").out)["ok"] is True


def test_no_configuration_means_all_defaults(run):
    outcome = run("config", "check")
    assert outcome.code == 0
    assert "all defaults" in outcome.out


@pytest.mark.parametrize("text", ['{"llm_driver_config": {"default_modell": "smollm2"}}', "{", "[]"])
def test_a_bad_configuration_exits_with_2_and_names_the_file(run, tmp_path: Path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    outcome = run("config", "check", str(path))
    assert (outcome.code, outcome.out) == (2, "")
    assert str(path) in outcome.error


@pytest.mark.parametrize("command", [("config", "check"), ("up", "--detach")])
def test_bad_rules_for_swaps_exit_with_2_and_name_the_key(run, home, command):
    home.policies.mkdir(parents=True)
    (home.policies / "swap.toml").write_text("[swap]\nkeep_old = 3\n")
    outcome = run(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert "swap.toml" in outcome.error
    assert "keep_old" in outcome.error


def test_a_configuration_that_was_named_must_be_there(run, tmp_path: Path):
    assert run("config", "check", str(tmp_path / "none.json")).code == 2


def test_help_is_quick_because_heavy_parts_are_imported_late():
    script = "import sys; from byenatos_kernel.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"zmq", "httpx", "byenatos_sdk.client", "byenatos_kernel.config"} & set(outcome.stderr.split())


def test_a_closed_pipe_ends_a_command_quietly(start):
    process = start("models", "--help")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(30)


def test_sigterm_ends_a_command_without_a_traceback(start, tmp_path: Path):
    source = tmp_path / "endless.gguf"
    os.mkfifo(source)
    process = start("config", "check", str(source))  # it waits for a writer to the pipe
    writer = os.open(source, os.O_WRONLY)  # returns as soon as the command reads
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=30)
    os.close(writer)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in out + error


def test_a_wrong_access_file_is_wrong_configuration(tmp_path, run):
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "access.toml").write_text("[isolation]\nrequire = []\n")
    outcome = run("--home", str(tmp_path), "up", "--detach")
    assert outcome.code == 2
    assert "unknown field `require`" in outcome.error


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_standard_stream_that_is_closed_is_no_mistake(home, redirection):
    command = f'"{sys.executable}" -m byenatos_kernel.cli --home "{home.path}" config check --json {redirection}'
    outcome = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=30)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout == "" if ">&-" in redirection.replace("2>&-", "") else json.loads(outcome.stdout)


def test_a_disk_that_is_full_is_said_in_one_line(home):
    command = f'"{sys.executable}" -m byenatos_kernel.cli --home "{home.path}" config check >/dev/full'
    outcome = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=30)
    assert outcome.returncode == 1
    assert outcome.stderr == "byenatos: [Errno 28] No space left on device\n"


def test_a_file_whose_name_is_no_text_is_named_as_far_as_that_goes(home):
    command = [sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), "config", "check", b"/x\xffy"]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (outcome.returncode, outcome.stderr) == (2, "byenatos: /x?y: no such file\n")


@pytest.mark.parametrize("command", [("config", "check"), ("config", "check", "--json")], ids=" ".join)
def test_what_an_encoding_lacks_ends_no_command(start, home, command):
    home.config.parent.mkdir(parents=True)
    home.config.write_text("{}")
    process = start(*command, PYTHONIOENCODING="ascii")
    out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    assert str(home.path) in out


def test_a_lock_that_cannot_be_looked_at_is_named(home, run):
    home.path.mkdir()
    home.run.write_text("a file where the folder was")
    outcome = run("down")
    assert (outcome.code, outcome.out) == (1, "")
    assert str(home.lock) in outcome.error


def test_a_home_of_a_user_that_does_not_exist_is_said_to_be_none(capsys):
    assert main(["--home", "~nobody-of-that-name/x", "status"]) == 1
    assert "~nobody-of-that-name/x leads to no folder" in capsys.readouterr().err
