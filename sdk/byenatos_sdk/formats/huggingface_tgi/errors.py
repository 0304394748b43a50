"""Errors: a text and, from TGI itself, a type; its chat route and its streams say them in the same way."""

from byenatos_sdk.formats.failures import is_context
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    StreamInterrupted,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)

__all__ = ["encode_error", "error_body"]

_SAID: dict[type[ByenatosError], tuple[int, str]] = {
    RequestTooLarge: (413, ""),
    InvalidRequest: (422, "validation"),
    ContentFiltered: (400, ""),
    Unauthenticated: (401, ""),
    QuotaExceeded: (402, ""),
    PermissionDenied: (403, ""),
    NotFound: (404, ""),
    RateLimited: (429, ""),
    Overloaded: (429, "overloaded"),
    StreamInterrupted: (500, "incomplete_generation"),
    UpstreamTimeout: (504, ""),
    DeadlineExceeded: (504, ""),
    UpstreamFailed: (424, "generation"),
    Unavailable: (503, "healthcheck"),
    ByenatosError: (500, ""),
}


def error_body(error: ByenatosError, *, in_stream: bool = False) -> tuple[int, bytes]:
    """Return the status and the body that say ``error``; in a stream there is always a type."""
    status, kind = next(_SAID[one] for one in type(error).__mro__ if one in _SAID)
    message = error.message or error.code
    if isinstance(error, ContextLengthExceeded) and not is_context(message):
        message = f"exceeds the maximum context: {message}"
    body = {"error": message}
    if kind or in_stream:
        body["error_type"] = kind or "generation"
    return status, json_body(body)


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error with the status and type that TGI's clients expect."""
    status, body = error_body(error)
    headers = {"content-type": "application/json"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(0, round(error.retry_after_s)))
    return WireResponse(body, status, headers)
