"""Fixtures of the client's tests: a home and a scripted kernel, in a thread or in a process of its own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from byenatos_sdk.home import Home

_PEER = Path(__file__).with_name("peer.py")
_SPECIFICATION = importlib.util.spec_from_file_location("byenatos_tests_client_peer", _PEER)
peer_module = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(peer_module)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def peer(home):
    """A kernel that greets; a test sets ``peer.script`` to make it do more."""
    peer = peer_module.Peer(home)
    yield peer
    peer.stop()


@pytest.fixture
def greet():
    """The script that only greets, for other scripts to call."""
    return peer_module.welcome


@pytest.fixture
def process(home):
    """A kernel in a process of its own, which begins every stream and ends none."""
    with subprocess.Popen(
        [sys.executable, str(_PEER), str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"serving\n"
        yield process
        process.kill()
