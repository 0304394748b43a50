"""The oracle of the storm finds what it is there to find."""

import pytest
from kernel_process import numbers
from tests.chaos.storm.oracle import Oracle
from tests.chaos.storm.play import COUNTING

from byenatos_sdk.protocol.control import Turn
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import assistant, user


@pytest.fixture
def oracle():
    return Oracle(COUNTING)


@pytest.mark.parametrize(
    "text",
    ["0 1 3 ", "0 1 1 2 ", "0 2 1 ", "0 1 2 3 4 ", "0 1 "],
    ids=["lost", "doubled", "out-of-order", "too-long", "too-short"],
)
def test_an_answer_that_is_not_what_was_asked_for_is_found(oracle, text):
    oracle.answered(4, text, 1)
    assert len(oracle.wrong) == 1


def test_an_honest_failure_behind_a_beginning_is_right_and_one_behind_a_gap_is_not(oracle):
    oracle.failed(Unavailable("gone"), "0 1 2")
    assert oracle.wrong == []
    oracle.failed(Unavailable("gone"), "0 2 ")
    assert len(oracle.wrong) == 1


def test_a_failure_that_is_no_consequence_of_a_storm_is_found(oracle):
    oracle.failed(InvalidRequest("no"), "")
    assert len(oracle.wrong) == 1


def turns(*messages):
    return tuple(Turn(number, message) for number, message in enumerate(messages, start=1))


def test_a_transcript_of_all_turns_in_their_order_is_right_whatever_became_of_those_that_failed(oracle):
    first, failed, last = (oracle.asks("talk", 3) for _ in range(3))
    first.answer = last.answer = numbers(3)
    answer = assistant(numbers(3))
    oracle.check_transcript("talk", turns(user(first.text), answer, user(failed.text), user(last.text), answer))
    oracle.check_transcript("talk", turns(user(first.text), answer, user(last.text), answer))
    assert oracle.wrong == []


@pytest.mark.parametrize("kept", [(0, 0, 1), (1, 0), (0,)], ids=["doubled", "out-of-order", "lost"])
def test_a_transcript_with_a_turn_too_many_too_few_or_elsewhere_is_found(oracle, kept):
    asked = [oracle.asks("talk", 3) for _ in range(2)]
    for one in asked:
        one.answer = numbers(3)
    oracle.check_transcript(
        "talk", turns(*(message for number in kept for message in (user(asked[number].text), assistant(numbers(3)))))
    )
    assert oracle.wrong
