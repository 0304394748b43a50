import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sandbox.output import KEPT_BYTES, LONGEST_LINE, OutputTail, printable

LINES = 5
TEXT = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.just(b"\n"),
        st.just(b"\n\n\n\n\n\n\n"),
        st.just(b"\x1b[31m"),
        st.integers(0, 2 * KEPT_BYTES).map(lambda size: b"x" * size),
    ),
    max_size=20,
).map(b"".join)


@given(data=TEXT, cuts=st.lists(st.integers(0, 1 << 16), max_size=10))
def test_arbitrary_bytes_in_arbitrary_cuts_keep_the_last_lines_in_bounds(data, cuts):
    tail = OutputTail(LINES)
    stream = tail.stream()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        stream.feed(data[start:end])
        assert len(stream.unfinished) <= KEPT_BYTES
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    shown = tail.show()
    assert shown == tuple(printable(line[:KEPT_BYTES]) for line in lines[-LINES:])
    for line in shown:
        assert len(line) <= LONGEST_LINE
        assert line.isprintable()
        assert line.encode().decode() == line


@given(first=TEXT, second=TEXT)
def test_two_streams_do_not_mix_their_lines(first, second):
    tail = OutputTail(1000)
    one, two = tail.stream(), tail.stream()
    for start in range(0, max(len(first), len(second)), 7):
        one.feed(first[start : start + 7])
        two.feed(second[start : start + 7])
    expected = [printable(line[:KEPT_BYTES]) for data in (first, second) for line in data.split(b"\n")]
    assert sorted(line for line in tail.show() if line) == sorted(line for line in expected if line)


def test_the_line_that_has_not_ended_is_shown_last():
    tail = OutputTail(3)
    out, err = tail.stream(), tail.stream()
    out.feed(b"prompt> ")
    err.feed(b"one\ntwo\n")
    assert tail.show() == ("one", "two", "prompt> ")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain", "plain"),
        (b"dos line\r", "dos line"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"bell\x07 nul\x00", "bell\\x07 nul\\x00"),
        (b"a\tb", "a b"),
        ("right\u202eleft".encode(), "right\\u202eleft"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("Grüße, 世界".encode(), "Grüße, 世界"),
    ],
)
def test_what_cannot_be_printed_is_dropped_or_made_visible(line, shown):
    assert printable(line) == shown


def test_a_long_line_is_cut_and_says_so():
    assert printable(b"x" * 501) == "x" * 499 + "…"
    assert printable(b"x" * 500) == "x" * 500


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("using sk-proj-abcdefgh12345678 now", "using [redacted] now"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer [redacted]"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "{'Authorization': 'Basic [redacted]'}"),
        ("sent bearer abcdefgh12", "sent bearer [redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("api_key=hunter2 next", "api_key=[redacted] next"),
        ('"api-key": "hunter2",', '"api-key": "[redacted]",'),
        ("ACME_API_KEY=hunter2", "ACME_API_KEY=[redacted]"),
        ("password: hunter2", "password: [redacted]"),
        ("key 0123456789abcdef0123456789abcdef", "key [redacted]"),
        ("token: dGhpcyBpcyBhIHNlY3JldA==", "token: [redacted]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[redacted]"),
        ("https://me:hunter2@host/x", "https://me:[redacted]@host/x"),
    ],
)
def test_what_looks_like_a_key_is_hidden(line, shown):
    assert printable(line.encode()) == shown


@pytest.mark.parametrize(
    "line",
    [
        "EOS token        = 2 '<|im_end|>'",
        "KeyError: 'blk.0.attn_q.weight'",
        "from huggingface_hub import hf_hub_download",
        "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "task-manager: risk-assessment done at 12:30",
        "GET http://127.0.0.1:8080/v1",
    ],
)
def test_what_does_not_look_like_a_key_is_left_alone(line):
    assert printable(line.encode()) == line


def test_a_key_across_the_shown_length_is_hidden():
    shown = printable(b"x" * (LONGEST_LINE - 10) + b" sk-abcdefgh12345678")
    assert "sk-" not in shown


@pytest.mark.parametrize(
    "piece", [b"key=", b"eyJ-", b"token=a", b"Bearer ", b"Authorization: ", b"://a:", b"sk-", b"secret=\"'"]
)
def test_no_line_takes_long_to_show(piece):
    """Against a line of the same size without anything to find in it, in the same run."""

    def cost(line):
        begin = time.process_time()
        for _ in range(20):
            printable(line)
        return time.process_time() - begin

    line = (piece * KEPT_BYTES)[:KEPT_BYTES]
    plain = b"x y " * (KEPT_BYTES // 4)
    assert min(cost(line) for _ in range(3)) < 60 * max(min(cost(plain) for _ in range(3)), 1e-3)
