"""The echo driver in its real process: what it says, how it goes on, how it fails."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.protocol.frames import Stop
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, Sampling, TextDelta, Usage, user
from byenatos_sdk.testing import DriverProcess, Heard, Silence

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def shared() -> Iterator[DriverProcess]:
    with DriverProcess(FOLDER) as driver:
        driver.load("echo")
        yield driver


@pytest.fixture
def own() -> Iterator[DriverProcess]:
    with DriverProcess(FOLDER) as driver:
        yield driver


def ask(said: str = "", *, sampling: Sampling | None = None, **echo: Any) -> InferenceRequest:
    extra = {"echo": echo} if echo else {}
    return InferenceRequest((user(said),), sampling=sampling or Sampling(), extra=extra)


def text(events: list[Heard]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_it_repeats_the_last_message_word_by_word_and_keeps_every_character(shared: DriverProcess) -> None:
    said = "  two  spaces,\na line\tand an end "
    events = shared.answer(ask(said))
    assert text(events) == said
    assert events[-1] == Finish("stop", Usage(output_tokens=8))


def test_it_goes_on_with_the_next_word_of_a_partial_answer(shared: DriverProcess) -> None:
    assert text(shared.answer(ask("one two three four"), partial="one two ")) == "three four"


def test_it_numbers_its_tokens(shared: DriverProcess) -> None:
    assert text(shared.answer(ask(tokens=5))) == "0 1 2 3 4 "


@pytest.mark.parametrize("way", ["serve", "infer"])
def test_it_goes_on_with_the_next_number_of_a_partial_answer(shared: DriverProcess, way: str) -> None:
    assert text(shared.answer(ask(tokens=13, way=way), partial="0 1 2 3 4 5 6 7 8 9 10 ")) == "11 12 "


def test_a_flood_of_one_text_goes_on_where_it_stopped(shared: DriverProcess) -> None:
    assert text(shared.answer(ask(tokens=4, text="ab"), partial="ab")) == "ababab"


def test_it_answers_at_once_in_one_delta(shared: DriverProcess) -> None:
    events = shared.answer(ask(reply="a whole answer"))
    assert events == [TextDelta("a whole answer"), Finish("stop", Usage(output_tokens=1))]


def test_it_stops_at_max_tokens(shared: DriverProcess) -> None:
    events = shared.answer(ask(tokens=-1, sampling=Sampling(max_tokens=3)))
    assert text(events) == "0 1 2 "
    assert events[-1] == Finish("length", Usage(output_tokens=3))


def test_it_stamps_its_tokens_in_order(shared: DriverProcess) -> None:
    before = time.perf_counter_ns()
    stamps = [int(stamp) for stamp in text(shared.answer(ask(tokens=20, stamp=True))).split()]
    assert stamps == sorted(stamps)
    assert before < stamps[0] < stamps[-1] < time.perf_counter_ns()


def test_a_rate_holds_the_tokens_back(shared: DriverProcess) -> None:
    first, *_, last = text(shared.answer(ask(tokens=11, stamp=True, rate=200))).split()
    assert int(last) - int(first) > 10 * 4_000_000


def test_streams_of_one_step_share_a_message_and_single_tokens_do_not(own: DriverProcess) -> None:
    own.load("echo")
    for batch, most, least in (("step", 60, 20), ("single", 600, 160)):
        before = own.frames
        for number in [own.start(ask(tokens=20, rate=100, batch=batch)) for _ in range(8)]:
            list(own.stream(number))
        assert least <= own.frames - before <= most


def test_an_unknown_key_is_named(shared: DriverProcess) -> None:
    (failure,) = shared.answer(ask(tokes=5))
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_request"
    assert "`tokes`" in failure.message


def test_a_stopped_stream_says_nothing_more(shared: DriverProcess) -> None:
    endless = shared.start(ask(tokens=-1, rate=500))
    shared.expect(endless, TextDelta)
    shared.send(Stop(endless))
    shared.answer(ask("whose answer comes after the stop was heard"))
    shared.waiting(endless)  # was under way
    assert len(shared.answer(ask(tokens=50, rate=500))) == 51
    assert shared.waiting(endless) == []


def test_settings_are_the_behaviour_of_requests_that_ask_for_none(own: DriverProcess) -> None:
    own.load("echo", settings={"tokens": 2})
    assert text(own.answer(ask("never mind"))) == "0 1 "
    assert text(own.answer(ask(tokens=3))) == "0 1 2 "


@pytest.mark.parametrize("way", ["serve", "infer"])
def test_it_raises_when_it_is_told_to(shared: DriverProcess, way: str) -> None:
    *_, last = shared.answer(ask(tokens=5, fault="raise", fault_after=2, way=way))
    assert last == Failure("internal", "RuntimeError: echo was told to raise this")


def test_an_answer_that_goes_on_elsewhere_is_spared_its_fault(shared: DriverProcess) -> None:
    assert text(shared.answer(ask(tokens=4, fault="crash", fault_after=2), partial="0 1 ")) == "2 3 "


def test_it_crashes_when_it_is_told_to(own: DriverProcess) -> None:
    own.load("echo")
    with pytest.raises(Silence, match="status 3"):
        own.answer(ask(tokens=5, fault="crash", fault_after=2))


def test_a_hang_stops_the_loop_but_not_the_heart(own: DriverProcess) -> None:
    own.load("echo")
    own.start(ask(tokens=5, fault="hang"))
    assert own.beat(lambda beat: beat.loop_age_ms > 200).streams == 1


def test_garbage_on_stdout_disturbs_nobody(own: DriverProcess) -> None:
    own.load("echo", settings={"start_fault": "garbage"})
    assert text(own.answer(ask(tokens=4, fault="garbage", fault_after=2))) == "0 1 2 3 "
    assert own.output().count("rubbish without an end") == 2


def test_a_silent_stream_disturbs_no_other(own: DriverProcess) -> None:
    own.load("echo")
    own.start(ask(tokens=5, fault="silent"))
    assert text(own.answer(ask("still here"))) == "still here"
