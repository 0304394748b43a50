"""Fixtures of the formats' tests: one scripted server for all vendors' clients."""

import pytest

pytest.register_assert_rewrite("tests.sdk.formats.cases", "tests.sdk.formats.chat_dialects", "tests.sdk.formats.laws")

from tests.sdk.formats.chat_dialects import close_clients  # noqa: E402  # after the registration
from tests.sdk.formats.replay import Replay, replaying  # noqa: E402  # after the registration


@pytest.fixture(scope="session")
def replay_server():
    with replaying() as server:
        yield server
        close_clients()


@pytest.fixture
def replay(replay_server: Replay) -> Replay:
    """The scripted server, with nothing queued and nothing noted."""
    replay_server.clear()
    return replay_server
