"""When a request is sent once more."""

import asyncio
import math

import pytest

from byenatos_sdk.http import retries as module
from byenatos_sdk.http.retries import Retries
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
    UpstreamFailed,
)


@pytest.fixture
def waits(monkeypatch):
    """What was waited for, without waiting."""
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return waited


def tried(error, *, attempts=3, most_wait_s=20.0, due=math.inf):
    """How often a request is sent that always fails with ``error``."""

    async def run():
        retries = Retries(attempts, most_wait_s, due)
        count = 1
        while True:
            try:
                await retries.after(error)
            except ByenatosError as raised:
                return count if raised is error else 0
            count += 1

    return asyncio.run(run())


def test_what_may_pass_is_tried_again_after_waits_that_double_and_vary(waits):
    assert tried(UpstreamFailed("x"), attempts=8) == 8
    for wait, most in zip(waits, (0.5, 1, 2, 4, 8, 8, 8), strict=True):
        assert most / 2 <= wait <= most
    again = list(waits)
    waits.clear()
    tried(UpstreamFailed("x"), attempts=8)
    assert waits != again


@pytest.mark.parametrize("error", [InvalidRequest("x"), Unauthenticated("x"), QuotaExceeded("x")])
def test_what_is_refused_for_good_is_not(waits, error):
    assert tried(error) == 1
    assert not waits


def test_the_vendors_own_time_counts_up_to_a_bound(waits):
    assert tried(RateLimited("x", retry_after_s=7.5), attempts=2) == 2
    assert waits == [7.5]
    assert tried(RateLimited("x", retry_after_s=21)) == 1
    assert tried(RateLimited("x", retry_after_s=0)) == 3


def test_the_vendors_word_not_to_come_back_counts(waits):
    error = UpstreamFailed("x")
    error.retryable = False
    assert tried(error) == 1


def test_there_is_no_try_that_would_come_too_late(waits):
    async def soon():
        return asyncio.get_running_loop().time()

    assert tried(RateLimited("x", retry_after_s=5), due=asyncio.run(soon()) + 2) == 1
