"""What every test may rely on."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Ctrl-C reaches us and our children, even where a shell started the tests in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
