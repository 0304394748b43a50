import gc
import os
import signal
import socket
import threading

import pytest

from byenatos_sdk.client import Client, KernelNotRunning
from byenatos_sdk.client.blocking_streams import Pump
from byenatos_sdk.client.link import Link
from byenatos_sdk.protocol import control
from byenatos_sdk.protocol.errors import Cancelled, DeadlineExceeded, RateLimited, Unavailable
from byenatos_sdk.protocol.frames import Ack, Bye, Call, Cancel, Notice, Open, Reply, decode_request, encode
from byenatos_sdk.protocol.messages import Failure, Finish, Moved, SwapEvent, SwapState, TextDelta


@pytest.fixture
def answers(peer, greet):
    """Make the kernel answer every stream with these events, one frame each."""

    def set_answers(*events):
        def script(peer, header, body):
            greet(peer, header, body)
            if isinstance(header, Open):
                for event in events:
                    peer.say((header.id, event))

        peer.script = script

    return set_answers


@pytest.fixture
def interrupts(peer, greet, monkeypatch):
    """Make the kernel begin the first stream only, and press Ctrl-C as soon as the client waits for more of it."""
    begun, waits = threading.Event(), threading.Event()
    original = Link.wait

    def wait(link, *arguments, **options):
        if begun.is_set():
            waits.set()
        original(link, *arguments, **options)

    def press():
        assert waits.wait(30)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def script(peer, header, body):
        greet(peer, header, body)
        if isinstance(header, Open) and header.id == 1:
            peer.say((1, TextDelta("begun ")))
            begun.set()
        elif isinstance(header, Open):
            peer.say((header.id, TextDelta("whole")), (header.id, Finish()))
        elif isinstance(header, Cancel):
            peer.say((header.id, Failure("cancelled", "as you wished", None, True)))

    monkeypatch.setattr(Link, "wait", wait)
    peer.script = script
    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()


def test_a_stream_yields_every_delta_and_ends_after_finish(home, peer, answers):
    deltas = [TextDelta("It "), Moved("a", "b", "swap"), TextDelta("is."), Finish("stop", model="b")]
    answers(*deltas)
    with Client(home) as client:
        with client.stream("Why?") as stream:
            assert list(stream) == deltas
            assert list(stream) == []
            assert (stream.text, stream.finish, stream.moves) == ("It is.", deltas[3], (deltas[1],))
        assert client.infer("Why?").text == "It is."
    peer.wait_for(Bye)
    assert peer.headers(Cancel) == []


def test_a_long_stream_is_acknowledged_and_complete(home, peer, answers):
    answers(*(TextDelta(f"{number} ") for number in range(1000)), Finish())
    with Client(home) as client:
        assert client.infer("Count.").text == "".join(f"{number} " for number in range(1000))
    peer.wait_for(Bye)
    assert [ack.count for ack in peer.headers(Ack)] == [64] * 15


def test_streams_that_run_at_once_are_all_filled_while_one_is_waited_for(home, peer, greet):
    def script(peer, header, body):
        greet(peer, header, body)
        if isinstance(header, Open) and header.id == 2:
            peer.say((1, TextDelta("one")), (2, TextDelta("two")), (2, Finish()), (1, Finish()))

    peer.script = script
    with Client(home) as client, client.stream("1") as one, client.stream("2") as two:
        assert two.response().text == "two"
        assert one.response().text == "one"


def test_a_failure_is_raised_with_what_the_kernel_said(home, answers):
    answers(TextDelta("part"), Failure("rate_limited", "slow down", 2.5, True))
    with Client(home) as client, client.stream("Why?") as stream:
        assert next(stream) == TextDelta("part")
        with pytest.raises(RateLimited, match="slow down") as caught:
            next(stream)
        assert (caught.value.retry_after_s, caught.value.partial, stream.text) == (2.5, True, "part")


def test_leaving_the_block_cancels_at_the_kernel(home, peer, answers):
    answers(TextDelta("endless "))
    with Client(home) as client:
        with client.stream("Why?") as stream:
            for _ in stream:
                break
        assert peer.wait_for(Cancel) == [Cancel(1)]
        assert list(stream) == []


def test_breaking_out_of_a_plain_loop_cancels_at_the_kernel(home, peer, answers):
    answers(TextDelta("endless "))
    with Client(home) as client:
        for _ in client.stream("Why?"):
            break
        assert peer.wait_for(Cancel) == [Cancel(1)]


def test_a_stream_that_another_thread_collects_is_cancelled_at_the_next_use(home, peer, answers):
    answers(TextDelta("begun"), Finish())
    with Client(home) as client:
        stream = client.stream("Why?")
        stream.cycle = stream
        del stream
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join()
        assert client.infer("Why?").text == "begun"
        assert peer.wait_for(Cancel) == [Cancel(1)]


def test_ctrl_c_cancels_the_stream_and_leaves_the_client_usable(home, peer, interrupts):
    with Client(home) as client:
        stream = client.stream("Why?")
        with pytest.raises(KeyboardInterrupt):
            list(stream)
        assert peer.wait_for(Cancel) == [Cancel(1)]
        assert list(stream) == []
        assert client.infer("Why?").text == "whole"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_infer_cancels_it_too(home, peer, interrupts):
    with Client(home) as client:
        with pytest.raises(KeyboardInterrupt):
            client.infer("Why?")
        assert peer.wait_for(Cancel) == [Cancel(1)]
        assert client.infer("Why?").text == "whole"


def test_ctrl_c_is_held_back_while_frames_are_taken_in(home, answers, monkeypatch):
    """The signal comes in the middle of the core's books; what had begun there is finished first."""
    answers(TextDelta("one "), TextDelta("two"), Finish())
    with Client(home) as client:
        receive = Pump._move
        done = []

        def interrupted(pump):
            signal.raise_signal(signal.SIGINT)
            came = receive(pump)
            done.append(came)
            return came

        stream = client.stream("Why?")
        with monkeypatch.context() as patch:
            patch.setattr(Pump, "_move", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(stream)
        assert len(done) == 1
        assert client.infer("Why?").text == "one two"


def test_another_exception_in_the_middle_of_the_books_ends_the_connection(home, answers, monkeypatch):
    answers(TextDelta("one"))
    with Client(home) as client:
        one, two = client.stream("1"), client.stream("2")

        def torn(pump):
            raise ZeroDivisionError

        monkeypatch.setattr(Pump, "_move", torn)
        with pytest.raises(ZeroDivisionError):
            list(one)
        for stream in (one, two):
            with pytest.raises(Unavailable, match="was interrupted while it took in frames"):
                list(stream)


def test_a_second_thread_inside_is_refused(home, peer, greet):
    inside, refused = threading.Event(), threading.Event()
    found = []

    def hold(pump):
        inside.set()
        assert refused.wait(30)
        return original(pump)

    with Client(home) as client, pytest.MonkeyPatch.context() as patch:
        stream = client.stream("Why?")
        original = Pump._move
        patch.setattr(Pump, "_move", hold)

        def second():
            assert inside.wait(30)
            try:
                client.stream("Me too")
            except RuntimeError as error:
                found.append(str(error))
            refused.set()
            peer.say((1, Finish()))

        thread = threading.Thread(target=second)
        thread.start()
        assert list(stream) == [Finish()]
        thread.join()
    assert found == ["expected one thread at a time in a Client, found a second one; make a Client for each"]


def test_a_client_may_be_handed_to_another_thread(home, answers):
    answers(TextDelta("hello"), Finish())
    texts = []
    with Client(home) as client:
        thread = threading.Thread(target=lambda: texts.append(client.infer("Hi").text))
        thread.start()
        thread.join()
        texts.append(client.infer("Hi").text)
    assert texts == ["hello", "hello"]


def test_without_a_kernel_the_error_says_what_to_do(home):
    with pytest.raises(KernelNotRunning, match=r"start one with `byenatos up`"):
        Client(home.path).connect()


def test_something_that_listens_and_never_answers_costs_the_timeout_and_no_more(home):
    home.create()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home.socket))
        silent.listen(8)
        with pytest.raises(KernelNotRunning, match=r"within 0.05 s although something listens"):
            Client(home, connect_timeout_s=0.05).connect()


def test_a_killed_kernel_ends_every_stream_with_what_was_delivered(home, process):
    with Client(home) as client:
        streams = [client.stream("Why?") for _ in range(5)]
        for stream in streams:
            assert next(stream) == TextDelta("begun ")
        os.kill(process.pid, signal.SIGKILL)
        for stream in streams:
            with pytest.raises(Unavailable, match="went away") as caught:
                next(stream)
            assert (caught.value.partial, stream.text) == (True, "begun ")
        with pytest.raises(Unavailable, match="open a new client"):
            client.status()


def test_a_kernel_that_forgets_a_time_limit_is_not_waited_for(home, peer, monkeypatch):
    monkeypatch.setattr("byenatos_sdk.client.blocking_streams.GRACE_S", 0.01)
    with Client(home) as client:
        with pytest.raises(DeadlineExceeded, match=r"within timeout_s=0.01"):
            client.infer("Why?", timeout_s=0.01)
        assert peer.wait_for(Cancel) == [Cancel(1)]


def test_closing_the_client_ends_its_streams_as_cancelled(home, peer):
    with Client(home) as client:
        stream = client.stream("Why?")
    with pytest.raises(Cancelled, match="this client was closed"):
        next(stream)
    with pytest.raises(Unavailable, match="this client was closed"):
        client.stream("Why?")
    client.close()


def test_a_session_names_itself_in_every_turn(home, peer, answers):
    answers(TextDelta("Hello."), Finish())
    with Client(home) as client:
        session = client.session(slot="coder")
        assert session.infer("Hi").text == "Hello."
        (header,), (body,) = peer.headers(Open), peer.bodies(Open)
        assert (header.target, header.session, decode_request(body).session) == ("coder", session.id, session.id)


def test_control_calls_and_events_work_as_in_the_async_client(home, peer, greet):
    swap = SwapEvent(7, "default", "a", "b", "graceful", SwapState.RETIRED, 1.0)
    news = Notice(encode(control.SwapAdvanced(1.0, swap)))

    def script(peer, header, body):
        greet(peer, header, body)
        if isinstance(header, Call):
            peer.say((header.id, news))
            if header.method == "swap":
                peer.say((header.id, Reply(encode(swap))))

    peer.script = script
    with Client(home) as client:
        steps = []
        assert client.swap("default", "b", on_event=steps.append) == swap
        assert steps == [swap]
        for event in client.events():
            assert event == control.SwapAdvanced(1.0, swap)
            break
        assert peer.wait_for(Cancel) == [Cancel(2)]
