import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from byenatos_sdk.client.core import (
    ACK_BYTES,
    MOST_MS,
    MOST_OUTGOING,
    PAUSE_ABOVE,
    RESUME_BELOW,
    Connection,
    KernelNotRunning,
)
from byenatos_sdk.protocol.control import Empty
from byenatos_sdk.protocol.errors import InvalidRequest, Overloaded, Unavailable
from byenatos_sdk.protocol.frames import (
    ACK_EVERY,
    MAX_BODY,
    Ack,
    Cancel,
    Notice,
    Pause,
    Refused,
    Reply,
    Welcome,
    decode_client_header,
    decode_request,
    encode,
)
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    Moved,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    user,
)

REQUEST = InferenceRequest((user("Why?"),))


def connected(features=("moved", "pause")):
    connection = Connection()
    greeting = connection.hello()
    connection.outgoing.clear()
    connection.receive(encode([(0, Welcome(1, features))]))
    assert isinstance(connection.take(greeting), Welcome)
    return connection


def feed(connection, *events):
    return connection.receive(encode(list(events)))


def sent(connection):
    """Take the headers out of the outgoing queue."""
    headers = [decode_client_header(header) for header, _ in connection.outgoing]
    connection.outgoing.clear()
    return headers


def drain(connection, inbox):
    events = []
    while (event := connection.take(inbox)) is not None:
        events.append(event)
    return events


# ---- what goes out ---------------------------------------------------------------------------------------------


def golden_hello(connection):
    Connection.hello(connection, "test")


def golden_open(connection):
    connection.open("coder", b"body", session="s1", timeout_s=1.5, gap_timeout_s=0.0001)


def golden_open_defaults(connection):
    connection.open("default", b"")


def golden_cancel(connection):
    number = connection.open("default", b"")
    connection.outgoing.clear()
    connection.cancel(number)


def golden_call(connection):
    connection.call("status", Empty())


def golden_pause(connection):
    inbox = connection.stream(REQUEST)
    connection.outgoing.clear()
    feed(connection, (inbox.id, TextDelta("x" * (PAUSE_ABOVE + 1))))


def golden_resume(connection):
    inbox = connection.stream(REQUEST)
    feed(connection, (inbox.id, TextDelta("x" * (PAUSE_ABOVE + 1))))
    connection.outgoing.clear()
    connection.take(inbox)


def golden_ack(connection):
    for _ in range(ACK_EVERY - 1):  # the handshake was the first frame
        feed(connection)


def golden_bye(connection):
    connection.close()


@pytest.mark.parametrize(
    ("make", "header", "body"),
    [
        (golden_hello, "9400910193a56d6f766564a57061757365a87472696767657273a474657374", b""),
        (golden_open, "960101a5636f646572a27331cd05dc01", b"body"),
        (golden_open_defaults, "960101a764656661756c74c00000", b""),
        (golden_cancel, "920201", b""),
        (golden_ack, "920340", b""),
        (golden_pause, "930401c3", b""),
        (golden_resume, "930401c2", b""),
        (golden_call, "930501a6737461747573", b"\x80"),
        (golden_bye, "9106", b""),
    ],
)
def test_each_header_has_its_golden_bytes(make, header, body):
    connection = connected()
    make(connection)
    assert [(found.hex(), rest) for found, rest in connection.outgoing] == [(header, body)]


def test_ids_count_up_and_are_not_used_again():
    connection = connected()
    assert [connection.open("default", b"") for _ in range(3)] == [1, 2, 3]
    feed(connection, (1, Finish()), (2, Finish()), (3, Finish()))
    assert connection.stream(REQUEST).id == 4
    assert connection.call("status", Empty()).id == 5


def test_a_stream_carries_its_request_and_its_time_limits():
    connection = connected()
    request = InferenceRequest((user("Hi"),), model="coder", session="s", timeout_s=2, gap_timeout_s=0.5)
    connection.stream(request)
    header, body = connection.outgoing.pop()
    header = decode_client_header(header)
    assert (header.target, header.session, header.timeout_ms, header.gap_timeout_ms) == ("coder", "s", 2000, 500)
    assert decode_request(body) == request


def test_a_body_that_no_kernel_takes_is_refused_before_it_is_sent():
    connection = connected()
    with pytest.raises(InvalidRequest, match=r"at most 32 MiB, found 32\.0 MiB; send fewer"):
        connection.open("default", bytes(MAX_BODY + 1))
    assert not connection.outgoing
    assert connection.open("default", b"") == 1


def test_nothing_starts_before_the_handshake():
    with pytest.raises(Unavailable, match="expected a client that is connected"):
        Connection().stream(REQUEST)


def test_a_kernel_that_takes_nothing_makes_new_exchanges_overloaded():
    connection = connected()
    for _ in range(MOST_OUTGOING):
        connection.open("default", b"")
    with pytest.raises(Overloaded, match="wait to be sent"):
        connection.stream(REQUEST)


def test_a_kernel_not_running_is_a_kind_of_unavailable():
    assert issubclass(KernelNotRunning, Unavailable)
    assert KernelNotRunning("").code == "unavailable"


# ---- acknowledgements and pauses -------------------------------------------------------------------------------


def test_every_64_frames_are_acknowledged_whatever_is_in_them():
    connection = connected()
    for _ in range(3 * ACK_EVERY - 2):
        feed(connection, (99, TextDelta("nobody's")))
    assert sent(connection) == [Ack(64), Ack(64)]
    feed(connection)
    assert sent(connection) == [Ack(64)]


def test_a_few_large_frames_are_acknowledged_too():
    connection = connected()
    large = (99, TextDelta("x" * (ACK_BYTES // 2)))
    feed(connection, large)
    assert sent(connection) == []
    feed(connection, large)
    assert sent(connection) == [Ack(3)]  # with the handshake
    feed(connection)
    assert sent(connection) == []


def test_a_stream_that_is_not_read_is_paused_once_and_goes_on_when_it_is_drained():
    connection = connected()
    inbox, other = connection.stream(REQUEST), connection.stream(REQUEST)
    sent(connection)
    piece = "x" * 1024
    for _ in range(PAUSE_ABOVE // 1024):
        feed(connection, (inbox.id, TextDelta(piece)), (other.id, TextDelta("y")))
        connection.take(other)
    assert [header for header in sent(connection) if isinstance(header, Pause)] == []
    feed(connection, (inbox.id, TextDelta(piece)))
    feed(connection, (inbox.id, TextDelta(piece)))
    assert [header for header in sent(connection) if isinstance(header, Pause)] == [Pause(inbox.id, True)]
    while inbox.weight >= RESUME_BELOW + 1024:
        connection.take(inbox)
    assert sent(connection) == []
    connection.take(inbox)
    assert sent(connection) == [Pause(inbox.id, False)]


def test_every_kind_of_delta_counts_towards_the_pause_and_balances_to_nothing():
    connection = connected()
    inbox = connection.stream(REQUEST)
    sent(connection)
    long = "x" * PAUSE_ABOVE
    feed(
        connection,
        (inbox.id, ReasoningDelta(long)),
        (inbox.id, ToolCallDelta("1", "f", long)),
        (inbox.id, Logprobs((TokenLogprob(long, -1.0, (("a", -2.0),)),))),
        (inbox.id, Moved("a", "b", "swap")),
    )
    assert sent(connection) == [Pause(inbox.id, True)]
    assert inbox.weight == 4 * PAUSE_ABOVE
    drain(connection, inbox)
    assert inbox.weight == 0
    assert sent(connection) == [Pause(inbox.id, False)]


def test_a_kernel_that_knows_no_pause_is_not_asked_for_one():
    connection = connected(features=())
    inbox = connection.stream(REQUEST)
    sent(connection)
    feed(connection, (inbox.id, TextDelta("x" * 2 * PAUSE_ABOVE)))
    drain(connection, inbox)
    assert sent(connection) == []


def test_an_ended_stream_is_not_resumed():
    connection = connected()
    inbox = connection.stream(REQUEST)
    sent(connection)
    feed(connection, (inbox.id, TextDelta("x" * 2 * PAUSE_ABOVE)), (inbox.id, Finish()))
    assert sent(connection) == [Pause(inbox.id, True)]
    assert drain(connection, inbox)[-1] == Finish()
    assert sent(connection) == []


# ---- ends ------------------------------------------------------------------------------------------------------


def test_events_reach_their_own_inbox_in_order_and_wake_whoever_waits_once():
    connection = connected()
    one, two = connection.stream(REQUEST), connection.stream(REQUEST)
    woken = []
    one.wake = lambda: woken.append(1)
    feed(connection, (one.id, TextDelta("a")), (two.id, TextDelta("b")), (one.id, TextDelta("c")), (one.id, Finish()))
    assert woken == [1]
    assert drain(connection, one) == [TextDelta("a"), TextDelta("c"), Finish()]
    assert drain(connection, two) == [TextDelta("b")]
    assert (one.ended, two.ended) == (True, False)


def test_a_load_generator_gets_its_events_without_an_inbox():
    connection = connected()
    number = connection.open("default", b"")
    assert feed(connection, (number, TextDelta("a")), (7, TextDelta("late")), (number, Finish())) == [
        (number, TextDelta("a")),
        (number, Finish()),
    ]


def test_ids_that_were_never_given_out_are_ignored():
    connection = connected()
    inbox = connection.stream(REQUEST)
    assert feed(connection, (2, Finish()), (-1, TextDelta("x")), (0, Notice(b"")), (inbox.id, TextDelta("a"))) == [
        (0, Notice(b"")),
        (inbox.id, TextDelta("a")),
    ]
    assert drain(connection, inbox) == [TextDelta("a")]
    assert connection.loss is None


def test_leaving_sends_a_cancel_and_drops_what_still_comes():
    connection = connected()
    inbox = connection.stream(REQUEST)
    sent(connection)
    feed(connection, (inbox.id, TextDelta("a")))
    woken = []
    inbox.wake = lambda: woken.append(1)
    connection.leave(inbox)
    connection.leave(inbox)
    assert woken == [1]
    assert sent(connection) == [Cancel(inbox.id)]
    feed(
        connection, (inbox.id, TextDelta("late")), (inbox.id, Moved("a", "b", "")), (inbox.id, Failure("cancelled", ""))
    )
    assert drain(connection, inbox) == []
    assert connection.loss is None
    connection.cancel(inbox.id)
    assert sent(connection) == []


def test_leaving_an_exchange_that_has_ended_sends_nothing():
    connection = connected()
    inbox = connection.stream(REQUEST)
    sent(connection)
    feed(connection, (inbox.id, Finish()))
    connection.leave(inbox)
    assert sent(connection) == []
    assert drain(connection, inbox) == []


def test_an_event_after_the_terminal_ends_the_connection_and_all_that_runs():
    connection = connected()
    ended, running, silent = (connection.stream(REQUEST) for _ in range(3))
    feed(connection, (running.id, TextDelta("part")), (ended.id, Finish()))
    events = feed(connection, (running.id, TextDelta(" two")), (ended.id, TextDelta("again")), (silent.id, Finish()))
    reason = (
        "the kernel broke the protocol: it sent TextDelta for exchange 1, which had ended; "
        "use the same release of kernel and client"
    )
    assert events == [
        (running.id, TextDelta(" two")),
        (running.id, Failure("unavailable", reason, None, True)),
        (silent.id, Failure("unavailable", reason, None, False)),
    ]
    assert drain(connection, ended) == [Finish()]
    assert drain(connection, running)[-1].partial
    assert not drain(connection, silent)[-1].partial
    with pytest.raises(Unavailable, match="had ended"):
        connection.stream(REQUEST)
    assert feed(connection, (running.id, TextDelta("more"))) == []


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x01", encode([(1, "x")]), b"\x91\x92\x01" + b"\x91" * 100_000])
def test_a_frame_that_cannot_be_decoded_ends_the_connection(frame):
    connection = connected()
    inbox = connection.stream(REQUEST)
    sent(connection)
    connection.receive(frame)
    assert connection.loss.startswith("the kernel broke the protocol: it sent a frame that cannot be decoded (")
    assert [type(event) for event in drain(connection, inbox)] == [Failure]
    assert sent(connection) == []


def test_a_stream_cannot_end_like_a_call_nor_a_call_like_a_stream():
    for wrong, start in ((Reply(b""), lambda c: c.stream(REQUEST)), (Finish(), lambda c: c.call("status", Empty()))):
        connection = connected()
        inbox = start(connection)
        feed(connection, (inbox.id, wrong))
        assert f"{type(wrong).__name__} at the end of exchange 1" in connection.loss
        assert [type(event) for event in drain(connection, inbox)] == [Failure]


def test_a_call_gets_its_notices_and_its_reply():
    connection = connected()
    inbox = connection.call("swap", Empty())
    feed(connection, (inbox.id, Notice(b"1")), (inbox.id, Notice(b"2")), (inbox.id, Reply(b"3")))
    assert drain(connection, inbox) == [Notice(b"1"), Notice(b"2"), Reply(b"3")]


def test_a_kernel_that_does_not_know_us_any_more_ends_the_connection():
    connection = connected()
    inbox = connection.stream(REQUEST)
    feed(connection, (0, Refused("say Hello first")))
    assert connection.loss == "the kernel refused this client: say Hello first"
    assert [type(event) for event in drain(connection, inbox)] == [Failure]


def test_a_handshake_is_answered_by_welcome_or_refused_and_by_nothing_else():
    for answer in (Refused("too old"), Finish()):
        connection = Connection()
        greeting = connection.hello()
        feed(connection, (0, answer))
        assert greeting.ended
        assert connection.welcome is None
        assert isinstance(connection.take(greeting), Refused if isinstance(answer, Refused) else Failure)


def test_closing_says_goodbye_and_ends_what_runs_as_cancelled():
    connection = connected()
    inbox, lean = connection.stream(REQUEST), connection.open("default", b"")
    feed(connection, (inbox.id, TextDelta("part")))
    reason = "this client was closed; open a new one"
    assert connection.close() == [
        (lean, Failure("cancelled", reason)),
        (inbox.id, Failure("cancelled", reason, None, True)),
    ]
    assert connection.close() == connection.lost("again") == []
    with pytest.raises(Unavailable, match="was closed"):
        connection.call("status", Empty())


# ---- every schedule --------------------------------------------------------------------------------------------


class Schedules(RuleBasedStateMachine):
    """Whatever is started, delivered, left and lost in whatever order: one terminal each, and text in order."""

    exchanges = Bundle("exchanges")

    def __init__(self):
        super().__init__()
        self.connection = connected()
        self.kinds = {}
        self.inboxes = {}
        self.said = {}
        self.read = {}
        self.terminals = {}
        self.left = set()

    def started(self, number, kind, inbox=None):
        assert number not in self.kinds
        self.kinds[number] = kind
        self.inboxes[number] = inbox
        self.said[number] = []
        self.read[number] = []
        self.terminals[number] = []
        return number

    def note(self, events):
        for number, event in events:
            assert number in self.kinds, "only events of our own exchanges are returned"
            assert not self.terminals[number], "nothing comes after a terminal"
            if isinstance(event, Finish | Failure | Reply):
                self.terminals[number].append(event)

    alive = precondition(lambda self: self.connection.loss is None)

    @alive
    @rule(target=exchanges)
    def stream(self):
        inbox = self.connection.stream(REQUEST)
        return self.started(inbox.id, "stream", inbox)

    @alive
    @rule(target=exchanges)
    def lean(self):
        return self.started(self.connection.open("default", b""), "lean")

    @alive
    @rule(target=exchanges)
    def call(self):
        inbox = self.connection.call("status", Empty())
        return self.started(inbox.id, "call", inbox)

    @rule(
        data=st.data(),
        numbers=st.lists(exchanges, max_size=6),
        size=st.sampled_from([1, 3, PAUSE_ABOVE // 2]),
    )
    def deliver(self, data, numbers, size):
        """One frame as a correct kernel sends it, with some ids that are nobody's."""
        frame, ending = [], set()
        for number in numbers:
            if self.terminals[number] or number in ending:
                frame.append((10_000 + number, TextDelta("nobody's")))
                continue
            if data.draw(st.booleans()):
                frame.append((number, Reply(b"") if self.kinds[number] == "call" else Finish()))
                ending.add(number)
            elif self.kinds[number] != "call":
                frame.append((number, TextDelta(str(len(self.said[number])).ljust(size))))
                if self.connection.loss is None and number not in self.left:
                    self.said[number].append(frame[-1][1].text)
        self.note(feed(self.connection, *frame))

    @rule(number=exchanges, count=st.integers(1, 4))
    def take(self, number, count):
        inbox = self.inboxes[number]
        for _ in range(count if inbox else 0):
            if (event := self.connection.take(inbox)) is not None:
                self.read[number].append(event)

    @rule(number=exchanges)
    def leave(self, number):
        if self.inboxes[number]:
            self.connection.leave(self.inboxes[number])
            self.left.add(number)

    @rule(number=exchanges)
    def misbehave(self, number):
        """A second terminal, from a kernel that is not correct, if the first has come."""
        if self.terminals[number]:
            before = self.connection.loss
            self.note(feed(self.connection, (number, Finish())))
            assert self.connection.loss is not None
            assert before is None or before == self.connection.loss

    @rule(end=st.sampled_from(["rubbish", "lost", "closed"]))
    def end(self, end):
        if end == "rubbish":
            self.note(self.connection.receive(b"\xc1"))
        elif end == "lost":
            self.note(self.connection.lost("the kernel went away"))
        else:
            self.note(self.connection.close())

    @invariant()
    def the_text_read_is_the_text_said_so_far(self):
        for number, read in self.read.items():
            texts = [event.text for event in read if isinstance(event, TextDelta)]
            assert texts == self.said[number][: len(texts)]

    @invariant()
    def a_pause_and_its_end_alternate(self):
        paused = {}
        for header in (decode_client_header(header) for header, _ in self.connection.outgoing):
            if isinstance(header, Pause):
                assert paused.get(header.id, False) is not header.on
                paused[header.id] = header.on

    def teardown(self):
        self.note(self.connection.lost("the end of the test"))
        for number, terminals in self.terminals.items():
            assert len(terminals) == 1
            if inbox := self.inboxes[number]:
                assert inbox.ended
                self.read[number] += drain(self.connection, inbox)
                if number not in self.left:
                    assert self.read[number] == [*map(TextDelta, self.said[number]), *terminals]


Schedules.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_every_exchange_ends_in_one_terminal_in_every_schedule = Schedules.TestCase


def _nested(deep):
    value = {}
    for _ in range(deep):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (InferenceRequest((user("a\ud800b"),)), r"half a surrogate pair in 'a\\ud800b'"),
        (InferenceRequest((user("hi"),), sampling=Sampling(max_tokens=1 << 64)), "integers of at most 64 bits"),
        (InferenceRequest((user("hi"),), extra=_nested(100_000)), "within values"),
        (InferenceRequest((user("hi"),), session="s" * 70_000), "found 70000 characters"),
        (InferenceRequest((user("hi"),), model="m" * 70_000), "found 70000 characters"),
        (InferenceRequest((user("hi"),), session="half \ud800"), "half a surrogate pair"),
    ],
    ids=["half a surrogate pair", "65 bits", "too deep", "a long session", "a long model", "half in a name"],
)
def test_what_cannot_travel_is_refused_and_nothing_is_begun(request_, words):
    connection = connected()
    with pytest.raises(InvalidRequest, match=words):
        connection.stream(request_)
    assert not connection.outgoing


def test_a_limit_that_is_as_good_as_none_travels_as_the_longest_one():
    connection = connected()
    connection.stream(msgspec.structs.replace(REQUEST, timeout_s=1e300))
    (header,) = sent(connection)
    assert header.timeout_ms == MOST_MS
