import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sdk.formats.failures import MAX_TEXT, body_of, by_status, failure, retry_after, text_of
from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContextLengthExceeded,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    UpstreamFailed,
)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "nan"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, 360.0),
        ({"x-ratelimit-reset-requests": "12ms", "x-ratelimit-remaining-requests": "0"}, 0.012),
        ({"x-ratelimit-reset-requests": "12ms", "x-ratelimit-remaining-requests": "5"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_from_headers(headers, seconds):
    assert retry_after(headers) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"details": [{"@type": "x"}, {"retryDelay": "34.5s"}]}}, 34.5),
        ([{"error": {"details": [{"retryDelay": "1m0.5s"}]}}], 60.5),
        ({"error": "loading", "estimated_time": 20.5}, 20.5),
        ({"estimated_time": "never"}, None),
        ({"error": {"details": {"retryDelay": "1s"}}}, None),
        ("busy", None),
        (None, None),
    ],
)
def test_how_long_to_wait_is_read_from_bodies(body, seconds):
    assert retry_after({}, body) == seconds


def test_dates_are_counted_from_now():
    later = datetime.now(UTC) + timedelta(seconds=100)
    assert retry_after({"retry-after": format_datetime(later, usegmt=True)}) == pytest.approx(100, abs=30)
    reset = {"anthropic-ratelimit-tokens-reset": later.isoformat(), "anthropic-ratelimit-tokens-remaining": "0"}
    assert retry_after(reset) == pytest.approx(100, abs=30)


def test_a_code_decides_before_words_and_words_before_the_status():
    kinds = {"insufficient_quota": QuotaExceeded, "Throttling": RateLimited}
    wire = WireResponse(status=429, headers={"retry-after": "3"})
    error = failure(wire, "You are out of credit", code="insufficient_quota", kinds=kinds)
    assert (type(error), error.vendor_code, error.vendor_status) == (QuotaExceeded, "insufficient_quota", 429)
    assert not error.retryable
    assert type(failure(wire, "slow", code="Throttling.RateQuota", kinds=kinds)) is RateLimited
    limited = failure(wire, "slow down", code="unheard_of", kinds=kinds)
    assert (type(limited), limited.retry_after_s, limited.retryable) == (RateLimited, 3.0, True)


@pytest.mark.parametrize(
    "text",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "This model's maximum context length is 128000 tokens",
        "The input token count (5000) exceeds the maximum number of tokens allowed (4096).",
        "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 100 `max_new_tokens`",
        "Range of input length should be [1, 30720]",
        "the request exceeds the available context size",
    ],
)
def test_a_conversation_that_is_too_long_is_known_by_its_words(text):
    assert type(failure(WireResponse(status=400), text)) is ContextLengthExceeded


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 504, 529, 599])
def test_every_status_stands_for_some_error(status):
    assert issubclass(by_status(status), ByenatosError)


def test_statuses_that_nobody_listed_follow_their_hundred():
    assert (by_status(418), by_status(599), by_status(529)) == (InvalidRequest, UpstreamFailed, Overloaded)


def test_the_vendors_text_is_kept_within_a_bound_and_an_empty_one_is_replaced():
    assert len(failure(WireResponse(status=500), "x" * 10**6).message) == MAX_TEXT
    assert failure(WireResponse(status=502), " ").message == "the vendor answered with status 502 and no text"


def test_a_page_of_html_is_read_as_text():
    wire = WireResponse(b"<html><style>p{}</style><h1>502 Bad\n Gateway</h1></html>", 502)
    assert (body_of(wire), text_of(wire)) == (None, "502 Bad Gateway")


@given(
    st.binary(max_size=200), st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text(max_size=30))
)
def test_any_body_and_any_headers_become_an_error_of_the_taxonomy(body, headers):
    wire = WireResponse(body, 500, headers)
    error = failure(wire, text_of(wire), details=body_of(wire))
    assert isinstance(error, ByenatosError)
    assert error.retry_after_s is None or 0 <= error.retry_after_s < 1e10


def test_words_are_looked_for_in_bounded_time():
    started = time.process_time()
    failure(WireResponse(status=400), "input token count " * 10**5)
    text_of(WireResponse(b"<" * 10**6 + b">"))
    assert time.process_time() - started < 5
