"""A home of its own for each test, and the command line run in this process or in one of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from byenatos_kernel.cli import main
from byenatos_sdk.home import Home


@dataclass
class Outcome:
    """What a command said and how it ended."""

    code: int
    out: str
    error: str


Run = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run ``byenatos`` in this process, as in a pipe."""
    monkeypatch.setenv("COLUMNS", "200")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Outcome:
        code = main(["--home", str(home.path), *arguments])
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def start(home: Home) -> Callable[..., "subprocess.Popen[str]"]:
    """Start ``byenatos`` as a process of its own."""

    def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip

    return start
