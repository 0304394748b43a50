"""The dispatch over call numbers means what its table says, for every number, and its checks see 32 bits."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from byenatos_sandbox.bpf import ALLOW, KILL, all_bits, dispatch, either, errno, interpret, no_bits, not_equal, one_of

ARCHITECTURE = 0xC000003E
DENY = errno(1)
UNKNOWN = errno(38)


def build(rules, *, x32=True) -> bytes:
    return dispatch(rules, default=UNKNOWN, architecture=ARCHITECTURE, x32=x32)


def ask(program, number, *arguments, architecture=ARCHITECTURE) -> int:
    return interpret(program, number, arguments, architecture=architecture)


verdicts = st.sampled_from([ALLOW, KILL, DENY, errno(2)])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, 600), verdicts, max_size=300))
def test_every_number_gets_the_verdict_of_the_table(rules):
    program = build(rules)
    for number in range(602):
        assert ask(program, number) == rules.get(number, UNKNOWN)


def test_a_table_in_which_no_two_neighbours_agree_needs_far_jumps_and_is_right():
    rules = {number: errno(number % 100 + 1) for number in range(1200)}
    program = build(rules)
    assert all(ask(program, number) == verdict for number, verdict in rules.items())


def test_another_architecture_and_the_x32_numbers_are_killed():
    program = build({0: ALLOW})
    assert ask(program, 0, architecture=0x40000003) == KILL
    assert ask(program, 0x40000000) == KILL
    assert ask(build({0: ALLOW}, x32=False), 0x40000000) == UNKNOWN


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12), st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_one_of_compares_the_low_half_and_nothing_else(values, given_value, argument):
    program = build({7: one_of(argument, values, DENY)})
    arguments = [0xDEAD] * 6
    arguments[argument] = given_value
    assert ask(program, 7, *arguments) == (ALLOW if given_value & 0xFFFFFFFF in values else DENY)
    arguments[argument] = (given_value & 0xFFFFFFFF00000000) | values[-1]
    assert ask(program, 7, *arguments) == ALLOW


@settings(deadline=None)
@given(st.integers(1, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_checks_of_bits(bits, value):
    forbidden = not_equal(1, bits, value & bits, DENY)
    assert ask(build({3: forbidden}), 3, 0, value) == DENY
    assert ask(build({3: forbidden}), 3, 0, value ^ (bits & -bits)) == ALLOW
    for check, right in (
        (all_bits, value & bits == bits),
        (no_bits, value & bits == 0),
        (either, value & bits != bits),
    ):
        assert ask(build({3: check(1, bits, DENY)}), 3, 0, value) == (ALLOW if right else DENY)


@pytest.mark.parametrize(("first", "second", "verdict"), [(1, 2, ALLOW), (1, 3, errno(5)), (0, 2, DENY)])
def test_checks_follow_each_other(first, second, verdict):
    program = build({9: one_of(0, [1], DENY, one_of(1, [2], errno(5)))})
    assert ask(program, 9, first, second) == verdict
