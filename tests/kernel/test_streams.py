"""A stream's journal and send buffer: whatever is taken when, the text is whole and what waits is counted."""

import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from byenatos_kernel.clients import ClientState
from byenatos_kernel.streams import JOIN_EVERY, Stream, StreamState
from byenatos_sdk.protocol.messages import (
    Finish,
    Logprobs,
    Moved,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)


def say(stream: Stream, text: str) -> None:
    """Queue text as the switchboard's hot path does it."""
    stream.pending.append(text)
    stream.total += len(text)
    stream.lag += len(text)
    stream.client.lag += len(text)
    if not stream.dirty:
        stream.dirty = True
        stream.client.dirty.append(stream)
    elif len(stream.pending) >= JOIN_EVERY:
        stream.settle()


def touch(stream: Stream) -> None:
    if not stream.dirty:
        stream.dirty = True
        stream.client.dirty.append(stream)


@pytest.fixture
def stream() -> Stream:
    client = ClientState("uid:0", 0)
    client.streams[7] = Stream(client, 7, "default")
    return client.streams[7]


def test_text_and_other_deltas_arrive_in_the_order_in_which_they_came(stream):
    say(stream, "one ")
    say(stream, "two ")
    stream.add_event(ReasoningDelta("hm", "signed"))
    say(stream, "three")
    stream.add_event(ToolCallDelta("1", "look", "{}"))
    out = []
    stream.take(out)
    assert out == [
        (7, TextDelta("one two ")),
        (7, ReasoningDelta("hm", "signed")),
        (7, TextDelta("three")),
        (7, ToolCallDelta("1", "look", "{}")),
    ]
    assert stream.text == "one two three"
    assert stream.parts == [Reasoning("hm", "signed"), ToolCall("1", "look", "{}")]


def test_characters_count_as_much_as_they_weigh_once_they_are_joined(stream):
    wide = "\N{GRINNING FACE}" * 4
    say(stream, wide)
    for _ in range(10 * JOIN_EVERY):
        say(stream, wide)
    held = sum(sys.getsizeof(event.text) for event in stream.events)
    assert stream.lag >= held
    assert held > 10 * JOIN_EVERY * len(wide) * 4


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), max_size=400), st.integers(1, 9))
def test_a_long_answer_is_kept_as_few_pieces(pieces, every):
    stream = Stream(ClientState("uid:0", 0), 1, "default")
    for number, piece in enumerate(pieces):
        say(stream, piece)
        if number % every == 0:
            stream.take([])
            stream.dirty = False
    assert stream.text == "".join(pieces)
    assert len(stream.journal) < JOIN_EVERY
    assert len(stream.chapters) <= len(pieces) // JOIN_EVERY


def test_the_text_holds_what_was_delivered_and_what_waits_joined_or_not(stream):
    say(stream, "delivered ")
    stream.take([])
    say(stream, "joined ")
    stream.add_event(ReasoningDelta("hm"))
    say(stream, "apart")
    assert stream.text == "delivered joined apart"


def test_a_move_is_no_part_of_the_answer(stream):
    stream.add_event(Moved("a", "b", "swap"))
    assert not stream.started
    assert stream.lag
    say(stream, "x")
    assert stream.started


BULK = "x" * 100_000


@pytest.mark.parametrize(
    "event",
    [
        ReasoningDelta("", BULK),
        ReasoningDelta(BULK),
        ToolCallDelta(BULK, "", ""),
        ToolCallDelta("", BULK, ""),
        ToolCallDelta("", "", BULK),
        Logprobs((TokenLogprob(BULK, 0.0),)),
        Logprobs((TokenLogprob("", 0.0, ((BULK, 0.0),)),)),
    ],
)
def test_every_string_of_an_event_weighs(event):
    stream = Stream(ClientState("uid:0", 0), 1, "default")
    stream.add_event(event)
    assert stream.lag >= len(BULK)
    assert stream.total >= len(BULK)


class Streams(RuleBasedStateMachine):
    """Three streams of one client, against plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.client = ClientState("uid:0", 0)
        self.streams = [Stream(self.client, number, "default") for number in range(3)]
        self.client.streams = {stream.client_id: stream for stream in self.streams}
        self.waiting: list[list[object]] = [[], [], []]
        self.produced: list[list[object]] = [[], [], []]
        self.delivered: list[list[object]] = [[], [], []]
        self.ended: set[int] = set()

    which = st.integers(0, 2)

    def _running(self, number: int) -> Stream | None:
        return None if number in self.ended else self.streams[number]

    @rule(number=which, text=st.text(max_size=6), times=st.sampled_from([1, 1, 3, 200]))
    def text(self, number, text, times) -> None:
        if stream := self._running(number):
            for _ in range(times):
                say(stream, text)
                self.waiting[number].extend(text)

    @rule(
        number=which,
        event=st.one_of(
            st.builds(ReasoningDelta, st.text(max_size=5)),
            st.builds(ToolCallDelta, st.just("id"), st.text(max_size=5), st.just("{}")),
            st.just(Logprobs((TokenLogprob("x", -0.5, (("y", -1.0),)),))),
            st.just(Moved("a", "b", "swap")),
        ),
    )
    def event(self, number, event) -> None:
        if stream := self._running(number):
            stream.add_event(event)
            touch(stream)
            self.waiting[number].append(event)

    @rule(number=which)
    def settle(self, number) -> None:
        self.streams[number].settle()

    @rule(number=which, on=st.booleans())
    def pause(self, number, on) -> None:
        stream = self.streams[number]
        stream.paused = on
        if not on and stream.waiting:
            touch(stream)

    @rule(number=which)
    def discard(self, number) -> None:
        """A failure that replaces what waits; a terminal that waits already stays."""
        self.streams[number].discard()
        waiting = self.waiting[number]
        del waiting[: len(waiting) - (self.streams[number].terminal is not None)]

    @rule(number=which)
    def end(self, number) -> None:
        if stream := self._running(number):
            self.ended.add(number)
            stream.state = StreamState.ENDED
            stream.terminal = Finish()
            touch(stream)
            self.waiting[number].append(Finish())

    @rule()
    def frame(self) -> None:
        unpaused = [number for number, stream in enumerate(self.streams) if stream.dirty and not stream.paused]
        for number, event in self.client.next_frame():
            assert number in unpaused, "a paused stream was sent"
            self.delivered[number].extend(event.text if isinstance(event, TextDelta) else [event])

    @invariant()
    def what_was_produced_is_delivered_or_waits_in_order(self) -> None:
        for number, stream in enumerate(self.streams):
            waiting = self.waiting[number]
            held: list[object] = []
            for event in stream.events:
                held.extend(event.text if type(event) is TextDelta else [event])
            held.extend("".join(stream.pending))
            if stream.terminal is not None:
                held.append(stream.terminal)
            done = len(waiting) - len(held)
            assert done >= 0
            assert held == waiting[done:], "what waits is not what was said last"
            self.produced[number].extend(waiting[:done])
            del waiting[:done]
            assert self.delivered[number] == self.produced[number], "what was delivered is not what was said"

    @invariant()
    def lag_is_what_waits(self) -> None:
        assert self.client.lag == sum(stream.lag for stream in self.streams)
        for stream in self.streams:
            weight = sum(len(event.text) for event in stream.events if type(event) is TextDelta)
            assert stream.lag >= weight + len("".join(stream.pending))
            if not stream.events and not stream.pending:
                assert stream.lag == stream.event_lag == 0

    @invariant()
    def waiting_tokens_do_not_stay_apart(self) -> None:
        for stream in self.streams:
            assert len(stream.pending) <= JOIN_EVERY

    @invariant()
    def a_delivered_terminal_ends_the_stream(self) -> None:
        for number in self.ended:
            over = number not in self.client.streams
            assert over is bool(self.delivered[number] and self.delivered[number][-1] == Finish())


Streams.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestStreams = Streams.TestCase
