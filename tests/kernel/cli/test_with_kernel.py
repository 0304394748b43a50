"""The commands against a real kernel with the echo driver."""

import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from byenatos_kernel.cli.power import start_detached, stop
from byenatos_kernel.cli.ps import Entry
from byenatos_kernel.diagnosis import Diagnosis
from byenatos_sdk.client import Client
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import (
    KernelStatus,
    ListRefreshed,
    ModelInfo,
    PluginInfo,
    SessionTranscript,
    SlotInfo,
)
from byenatos_sdk.protocol.messages import InferenceResponse, SessionInfo, SwapEvent, SwapState

WITHIN_S = 30.0
PRESSED_AGAIN_S = 3.0

CONFIG = {
    "llm_driver_config": {"default_model": "echo"},
    "slots": {"endless": "echo-two"},
    "model_config": {"model_id": "echo-two", "vendor": "echo", "settings": {"tokens": -1, "rate": 50}},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose kernel runs: slot default echoes, slot endless counts until it is stopped."""
    home = Home(tmp_path_factory.mktemp("k"))
    home.config.write_text(json.dumps(CONFIG))
    start_detached(home, wait_s=WITHIN_S)
    yield home
    stop(home, wait_s=WITHIN_S)


@pytest.fixture
def run_until(run):
    """Run a command again until ``holds(outcome)``: for what the kernel does in its own time."""

    def run_until(holds, *arguments: str):
        deadline = time.monotonic() + WITHIN_S
        while not holds(outcome := run(*arguments)):
            assert time.monotonic() < deadline, outcome
        return outcome

    return run_until


@pytest.fixture
def ready(run_until):
    """Wait until both slots serve."""
    run_until(lambda outcome: outcome.out.count(" ready ") >= 2, "slots")


def slot_line(run, slot: str) -> str:
    """What ``byenatos slots`` says of a slot."""
    return next(line for line in run("slots").out.splitlines() if line.startswith(f"{slot} "))


def read(kind, text: str):
    return msgspec.json.decode(text, type=kind)


def test_up_says_that_the_kernel_is_running_already(run):
    outcome = run("up", "--detach")
    assert outcome.code == 0
    assert "already running" in outcome.out


def test_a_second_kernel_in_the_foreground_is_refused_with_3(start):
    process = start("up")
    _, error = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 3
    assert "already running" in error


def test_status_speaks_to_people_and_to_programs(run, ready, home):
    assert "SLOT" in run("status").out
    assert read(KernelStatus, run("status", "--json").out).home == str(home.path)


def test_ps_lists_the_processes_with_how_they_are_isolated(run, ready):
    entries = read(list[Entry], run("ps", "--json").out)
    assert {one.instance.model for one in entries} == {"echo", "echo-two"}
    assert all(one.threads and one.memory_bytes and one.instance.template == "one-shot" for one in entries)
    shown = run("ps").out
    assert all(f"echo/{one.instance.model}" in shown and one.isolation in shown for one in entries)


def test_ps_of_one_model_shows_what_its_process_printed(run, run_until, ready, home):
    with Client(home) as client:
        client.infer("a b", extra={"echo": {"fault": "garbage"}})
    outcome = run_until(lambda outcome: "  | rubbish without an end" in outcome.out, "ps", "echo")
    assert "echo/echo (epoch " in outcome.out
    assert "\x1b" not in outcome.out
    nobody = run("ps", "nobody")
    assert (nobody.code, nobody.out) == (1, "")
    assert "no process of 'nobody'; there are those of" in nobody.error


def test_doctor_ends_in_a_verdict_that_its_exit_code_agrees_with(run, ready):
    shown = run("doctor")
    found = read(Diagnosis, run("doctor", "--json").out)
    assert shown.code == (0 if found.healthy else 1)
    assert shown.out.splitlines()[-1].startswith("drivers start here" if found.drivers_start else "drivers do NOT")
    assert all(one.words in shown.out for one in (*found.layers, *found.parts))
    assert found.home[-1].found.startswith("version ")


def test_models_and_slots_are_listed_as_the_protocols_structs(run, ready):
    assert {"echo", "echo-two"} <= {model.id for model in read(list[ModelInfo], run("models", "list", "--json").out)}
    slots = read(list[SlotInfo], run("slots", "--json").out)
    assert {slot.name: slot.model for slot in slots} == {"default": "echo", "endless": "echo-two"}


def test_an_answer_in_a_pipe_is_the_models_text_alone(run, ready):
    outcome = run("ask", "one two  three")
    assert (outcome.code, outcome.out, outcome.error) == (0, "one two  three\n", "")


def test_an_answer_for_programs_is_a_whole_response(run, ready):
    assert read(InferenceResponse, run("ask", "one two", "--json").out).text == "one two"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("ask", "\udcff"), "expected text, found half a surrogate pair in '\\udcff'"),
        (("ask", "hi", "--max-tokens", "9" * 23), "expected integers of at most 64 bits"),
        (("sessions", "show", "\udcff"), "expected text"),
    ],
    ids=["bytes that are no text", "a number that is too large", "a name that is no text"],
)
def test_what_cannot_travel_is_said_in_a_sentence(run, ready, command, words):
    outcome = run(*command)
    assert (outcome.code, outcome.error.count("\n")) == (1, 1)
    assert words in outcome.error


def test_a_question_can_come_from_standard_input(run, ready, monkeypatch, tmp_path: Path):
    (tmp_path / "question").write_text("from a file")
    with (tmp_path / "question").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run("ask", "-").out == "from a file\n"


@pytest.mark.parametrize(
    "command",
    [
        ("ask", "hello", "--slot", "nosuch"),
        ("swap", "default", "nosuch"),
        ("models", "load", "nosuch"),
        ("models", "unload", "echo"),
        ("sessions", "show", "nosuch"),
        ("sessions", "rm", "nosuch"),
        ("sessions", "hibernate", "nosuch"),
        ("sessions", "wake", "nosuch"),
        ("sessions", "prefill", "nosuch"),
        ("sessions", "move", "nosuch", "echo"),
        ("swaps", "cancel", "nosuch"),
    ],
    ids=" ".join,
)
def test_what_the_kernel_refuses_exits_with_1_and_says_why(run, ready, command):
    outcome = run(*command)
    assert outcome.out == "" or command[0] == "swap"
    assert outcome.code == 1
    assert outcome.error.startswith("byenatos: ")


def test_a_session_is_begun_by_the_first_question_that_names_it(run, ready):
    assert run("ask", "hello", "--session", "begun").code == 0
    shown = run("sessions", "show", "begun", "--json")
    assert [turn["number"] for turn in json.loads(shown.out)["turns"]] == [1, 2]


def test_each_line_of_a_pipe_is_a_turn_and_the_session_can_be_continued(run, ready, monkeypatch, tmp_path: Path):
    (tmp_path / "lines").write_text("first\n\n /second\n/model\n/exit\nnever\n")
    with (tmp_path / "lines").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        outcome = run("chat", "--slot", "default")
    assert (outcome.code, outcome.out) == (0, "first\n/second\n")
    assert run("chat", "default", "--slot", "endless").code == 2
    assert "default: echo (ready)" in outcome.error
    session = outcome.error.split()[-1]
    assert run("ask", "third", "--session", session).out == "third\n"
    turns = read(SessionTranscript, run("sessions", "show", session, "--json").out).turns
    assert [turn.message.text for turn in turns] == ["first", "first", "/second", "/second", "third", "third"]
    assert "third" in run("sessions", "show", session).out
    assert "is answered by echo-two" in run("sessions", "move", session, "echo-two").out
    assert "moved to echo-two" in run("sessions", "show", session).out
    [listed] = [line for line in run("sessions", "list").out.splitlines() if session in line]
    assert listed.split()[1:3] == ["default", "echo-two"]
    assert "1 session is answered elsewhere" in slot_line(run, "default")
    assert "is answered by its slot" in run("sessions", "move", session, "--back").out
    assert run("sessions", "move", session).code == 2
    assert run("sessions", "rm", session).code == 0
    assert session not in [one.id for one in read(list[SessionInfo], run("sessions", "list", "--json").out)]


def test_a_wrong_command_ends_a_chat_in_a_pipe(run, ready, monkeypatch, tmp_path: Path):
    (tmp_path / "lines").write_text("/nonsense\nnever\n")
    with (tmp_path / "lines").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        outcome = run("chat")
    assert (outcome.code, outcome.out) == (1, "")
    assert "/swap MODEL" in outcome.error


def test_a_model_without_a_slot_is_loaded_into_a_new_one(run, ready):
    assert run("models", "load", "echo", "--slot", "third").code == 0
    assert run("ask", "hello", "--slot", "third").out == "hello\n"


def test_a_swap_moves_a_running_answer_and_each_step_is_a_line(run, ready, start):
    answer = start("ask", "to the end", "--slot", "endless")
    assert answer.stdout.read(1) == "0"
    outcome = run("swap", "endless", "echo", "--strategy", "immediate", "--json")
    steps = [read(SwapEvent, line) for line in outcome.out.splitlines()]
    assert outcome.code == 0
    assert {SwapState.REQUESTED, SwapState.PREPARED, SwapState.SWITCHED} <= {step.state for step in steps}
    out, error = answer.communicate(timeout=WITHIN_S)
    assert answer.returncode == 0
    assert out.endswith("to the end\n")
    assert "echo-two → echo" in error
    assert steps[-1].id in [swap.id for swap in read(list[SwapEvent], run("swaps", "--json").out)]
    outcome = run("swap", "endless", "echo-two")
    assert outcome.code == 0
    assert "switched" in outcome.out
    assert "endless: echo → echo-two, draining: echo is kept for 30 s, after " in outcome.out
    assert slot_line(run, "endless").endswith("  echo is kept: `byenatos swap endless --back`")
    outcome = run("swap", "endless", "--back")
    assert "is kept" not in slot_line(run, "endless")
    assert (outcome.code, outcome.out) == (0, "endless: echo-two → echo, rolled_back: as asked for\n")
    assert run("swap", "endless", "--back").code == 1
    assert run("swap", "endless").code == 2
    assert run("swap", "endless", "echo-two", "--back").code == 2
    run("swap", "endless", "echo-two")
    assert "endless" in run("swaps").out


def test_one_swap_is_shown_by_its_number_and_an_unknown_one_says_where_to_look(run, ready):
    assert run("swap", "endless", "echo").code == 0
    (swap, *_) = read(list[SwapEvent], run("swaps", "--json").out)
    shown = run("swaps", "show", str(swap.id))
    assert shown.code == 0
    assert shown.out.startswith(f"swap {swap.id} at ")
    assert "cause manual, graceful: endless: echo-two → echo" in shown.out
    assert read(SwapEvent, run("swaps", "show", str(swap.id), "--json").out) == swap
    assert run("swap", "endless", "echo-two").code == 0
    unknown = run("swaps", "show", "999")
    assert unknown.code == 1
    assert "byenatos swaps" in unknown.error


def test_events_are_followed_until_ctrl_c(run, ready, start):
    process = start("events", "--json")
    while select.select([process.stdout], [], [], 0)[0] == []:  # its first event may come before it listens
        assert run("swap", "endless", "echo").code == 0
        assert run("swap", "endless", "echo-two").code == 0
    assert "type" in json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, error) == (130, "")


class Terminal:
    """A person at a terminal."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self.said = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            program = [sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), *arguments]
            os.execve(program[0], program, {**os.environ, "TERM": "xterm"})

    def until(self, text: str) -> None:
        """Read until ``text`` was said, and forget what was read."""
        deadline = time.monotonic() + WITHIN_S
        while text not in self.said:
            assert select.select([self._terminal], [], [], deadline - time.monotonic())[0], self.said
            self.said += os.read(self._terminal, 4096).decode()
        self.said = self.said.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def leave_the_prompt(self) -> None:
        """Press Ctrl-C, and again where Python did not hear it: just after a prompt is shown it waits for keys only."""
        self.type("\x03")
        while not select.select([self._terminal], [], [], PRESSED_AGAIN_S)[0]:
            self.type("\x03")

    def leave(self) -> int:
        """Return the exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._terminal)
        return code


def test_ctrl_c_ends_an_answer_and_not_the_chat(home, ready):
    person = Terminal(home, "chat", "endless")
    person.until("endless> ")
    person.type("count\n")
    person.until("1 2 3 ")
    person.type("\x03")
    person.until("cancelled")
    person.until("endless> ")
    person.type("/nonsense\n")
    person.until("expected a command")
    person.until("endless> ")
    person.type("/model\n")
    person.until("endless: echo-two")
    person.until("endless> ")
    person.leave_the_prompt()
    person.until("continue with: byenatos chat --session ")
    assert person.leave() == 130


def test_a_chat_swaps_between_turns_and_ends_with_ctrl_d(home, ready, run):
    person = Terminal(home, "chat", "endless")
    person.until("endless> ")
    person.type("/swap echo\n")
    person.until("switched")
    person.until("endless> ")
    person.type("hello there\n")
    person.until("hello there\r\n")  # what was typed
    person.until("hello there\r\n")  # what was answered
    person.type("/swap echo-two graceful\n")
    person.until("switched")
    person.until("endless> ")
    person.type("\x04")
    person.until("continue with")
    assert person.leave() == 0


def test_a_kernel_in_the_foreground_stops_on_sigterm(tmp_path: Path, start):
    process = start("--home", str(tmp_path / "other"), "up")
    for line in process.stderr:
        if "serves" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0


def test_ctrl_c_while_a_kernel_starts_in_the_background_stops_it_again(tmp_path: Path):
    home = Home(tmp_path / "home")
    command = [sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), "up", "--detach"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0)
    while not (home.lock.exists() and home.lock.read_text().strip()):
        assert process.poll() is None
    kernel = os.pidfd_open(int(home.lock.read_text()))
    signal.pidfd_send_signal(kernel, signal.SIGSTOP)  # it answers nobody before Ctrl-C comes
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_S) == 130
    signal.pidfd_send_signal(kernel, signal.SIGCONT)
    assert select.select([kernel], [], [], WITHIN_S)[0]
    os.close(kernel)


def test_down_stops_the_kernel_and_waits_until_it_is_gone(tmp_path: Path, run):
    other = ("--home", str(tmp_path / "other"))
    started = read(KernelStatus, run(*other, "up", "--detach", "--json").out)
    outcome = run(*other, "down", "--json")
    assert json.loads(outcome.out) == {"stopped": True, "pid": started.pid}
    assert run(*other, "status").code == 3


def test_a_kernel_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path, run):
    other = Home(tmp_path / "other")
    other.create()
    other.database.write_bytes(b"this is no database" * 1000)
    with closing(sqlite3.connect(other.database)) as connection, pytest.raises(sqlite3.DatabaseError):
        connection.execute("SELECT * FROM sqlite_master")
    outcome = run("--home", str(other.path), "up", "--detach")
    assert outcome.code == 1
    assert "ended at once" in outcome.error
    assert str(other.log) in outcome.error


def test_a_wrong_configuration_is_told_before_a_kernel_is_started(tmp_path: Path, run):
    other = Home(tmp_path / "other")
    other.create()
    other.config.write_text('{"unknown": 1}')
    outcome = run("--home", str(other.path), "up", "--detach")
    assert outcome.code == 2
    assert "unknown" in outcome.error
    assert not other.log.exists()


def test_the_plugins_are_listed_with_who_signed_them(run):
    shown = run("driver", "list")
    assert shown.code == 0
    [line] = [line for line in shown.out.splitlines() if line.startswith("echo ")]
    assert " operator " in line
    assert " available " in line
    [echo] = [one for one in read(list[PluginInfo], run("driver", "list", "--json").out) if one.id == "echo"]
    assert (len(echo.key), len(echo.digest), echo.unsigned) == (16, 64, "")


def test_a_vendors_list_is_refreshed_for_people_and_for_programs(run, ready):
    (report,) = read(list[ListRefreshed], run("models", "refresh", "echo", "--json").out)
    assert (report.driver, report.offered, set(report.taken)) == ("echo", 2, {"echo", "echo-two"})
    outcome = run("models", "refresh")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1].split()[:2] == ["echo", "2"]
    outcome = run("models", "refresh", "nobody")
    assert outcome.code == 1
    assert "no driver 'nobody'" in outcome.error
