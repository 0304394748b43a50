import pytest

from byenatos_sdk.formats.ndjson import LineReader
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, RateLimited
from byenatos_sdk.protocol.messages import Failure, Finish, Moved, TextDelta


class Lines(UnitDecoder[bytes]):
    """Reads lines: text, ``.`` for the end, ``!`` for an error, ``?`` for what is no line of this format."""

    def __init__(self, *, at_end=()):
        super().__init__(LineReader())
        self.left = at_end

    def read(self, unit):
        if unit == b"?":
            raise InvalidRequest("expected a line")
        if unit == b"!!":
            raise NotFound("nobody")
        if unit == b"!":
            self.fail(RateLimited("wait", retry_after_s=2))
        elif unit == b".":
            self.say(Finish())
        else:
            self.say(TextDelta(unit.decode()))

    def at_end(self):
        self.say(*self.left)


INTERRUPTED = "stream_interrupted"


def test_a_stream_ends_once_and_says_nothing_afterwards():
    decoder = Lines()
    assert decoder.feed(b"a\n.\nb\n.\n?\n") == [TextDelta("a"), Finish()]
    assert decoder.feed(b"c\n") == []
    assert decoder.end() == []


def test_an_error_ends_it_and_tells_whether_something_was_said():
    assert Lines().feed(b"!\na\n") == [Failure("rate_limited", "wait", 2)]
    assert Lines().feed(b"a\n!\n")[1] == Failure("rate_limited", "wait", 2, partial=True)
    decoder = Lines()
    decoder.say(Moved("a", "b", "x"))
    assert decoder.feed(b"!!\n")[1] == Failure("not_found", "nobody")


def test_what_is_not_of_the_format_is_the_vendors_failure():
    (failure,) = Lines().feed(b"?\n")
    assert (failure.code, failure.message) == ("upstream_failed", "stream: expected a line")


@pytest.mark.parametrize("raw", [b"", b"a\n", b"a\n?"])
def test_bytes_that_stop_too_early_are_an_interruption_even_within_a_unit(raw):
    decoder = Lines()
    deltas = decoder.feed(raw) + decoder.end()
    assert deltas[-1].code == INTERRUPTED
    assert deltas[-1].partial == raw.startswith(b"a")
    assert decoder.end() == []


def test_the_last_unit_needs_no_end_of_its_own():
    decoder = Lines()
    assert decoder.feed(b"a\n.") == [TextDelta("a")]
    assert decoder.end() == [Finish()]


def test_a_format_may_end_when_the_bytes_do():
    decoder = Lines(at_end=(Finish("length"),))
    assert decoder.feed(b"a\n") + decoder.end() == [TextDelta("a"), Finish("length")]
