"""How often an application is answered: in any minute, by all fronts and workers together."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_kernel.access import ClientRules
from byenatos_kernel.rates import WINDOW_S, Rates
from byenatos_sdk.protocol.errors import RateLimited, Unauthenticated

SHA = "ab" * 32


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def rates(*clients, clock):
    return Rates(lambda: clients, clock=clock)


def test_a_client_is_answered_so_often_in_any_minute():
    clock = Clock()
    counted = rates(ClientRules("editor", SHA, per_minute=3), ClientRules("boss", SHA), clock=clock)
    for _ in range(3):
        counted.admit("editor")
        clock.now += 10
    with pytest.raises(RateLimited, match="editor: expected at most 3") as refused:
        counted.admit("editor")
    assert refused.value.retry_after_s == pytest.approx(30.0)
    for _ in range(9):
        counted.admit("boss")
    clock.now += 30
    counted.admit("editor")
    with pytest.raises(RateLimited):
        counted.admit("editor")


def test_a_limit_that_was_changed_counts_from_then_on_with_what_was_answered_before():
    clock = Clock()
    known = [ClientRules("editor", SHA, per_minute=5)]
    counted = Rates(lambda: tuple(known), clock=clock)
    for _ in range(4):
        counted.admit("editor")
        clock.now += 10
    known[0] = ClientRules("editor", SHA, per_minute=2)
    with pytest.raises(RateLimited) as refused:
        counted.admit("editor")
    assert refused.value.retry_after_s == pytest.approx(40.0)
    clock.now += 40
    counted.admit("editor")


def test_whoever_is_not_known_is_not_counted():
    counted = rates(clock=Clock())
    with pytest.raises(Unauthenticated):
        counted.admit("nobody")


@given(st.lists(st.floats(0, 40), max_size=60), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_no_minute_has_more_answers_than_are_allowed(pauses, most):
    clock = Clock()
    counted = rates(ClientRules("one", SHA, per_minute=most), clock=clock)
    answered = []
    for pause in pauses:
        clock.now += pause
        with suppress(RateLimited):
            counted.admit("one")
            answered.append(clock.now)
    for begin in answered:
        assert sum(begin <= at < begin + WINDOW_S for at in answered) <= most
