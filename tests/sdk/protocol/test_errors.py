import pytest

from byenatos_sdk.protocol import errors
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded, Unavailable, error_codes, error_from_code

CODES_OF_MAJOR_1 = (
    "internal",
    "invalid_request",
    "context_length_exceeded",
    "request_too_large",
    "unsupported",
    "unauthenticated",
    "permission_denied",
    "not_found",
    "rate_limited",
    "quota_exceeded",
    "content_filtered",
    "overloaded",
    "client_too_slow",
    "unavailable",
    "driver_crashed",
    "draining",
    "upstream_failed",
    "upstream_timeout",
    "stream_interrupted",
    "deadline_exceeded",
    "cancelled",
)


def test_the_codes_of_major_1_are_these():
    assert error_codes() == CODES_OF_MAJOR_1


def test_the_tree_that_is_drawn_is_the_tree_that_is_built():
    drawn = {
        line.split()[-2]: line.split()[-1] for line in errors.__doc__.splitlines() if line[4:] and "  " in line[4:]
    }
    built = {name: getattr(errors, name).code for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert drawn == built


@pytest.mark.parametrize("code", CODES_OF_MAJOR_1)
def test_a_code_becomes_its_error_and_keeps_what_travelled_with_it(code):
    error = error_from_code(code, "sorry", retry_after_s=1.5, partial=True)
    assert type(error).code == code
    assert (str(error), error.message, error.retry_after_s, error.partial) == ("sorry", "sorry", 1.5, True)


def test_an_unknown_code_becomes_internal_and_is_named():
    error = error_from_code("from_the_future", "sorry", retry_after_s=1.5, partial=True)
    assert type(error) is ByenatosError
    assert (error.code, error.retry_after_s, error.partial) == ("internal", 1.5, True)
    assert str(error) == "sorry [unknown code 'from_the_future']"


def test_an_error_can_be_caught_by_its_parent():
    assert isinstance(error_from_code("driver_crashed", ""), Unavailable)
    assert isinstance(error_from_code("draining", ""), Unavailable)
    assert isinstance(error_from_code("client_too_slow", ""), Overloaded)
