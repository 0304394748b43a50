"""Errors, both ways: ``{"type": "error", "error": {"type", "message", "details"?}}``.

``details.error_code`` names the cause where the vendor says it; here it also carries the stable code of what the
types do not tell apart, so that an error of this project keeps its meaning on its way through this format.
"""

import re
from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.failures import MAX_TEXT, body_of, failure, text_of
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    Cancelled,
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
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)

__all__ = ["decode_error", "encode_error", "error_object", "error_of"]

_KINDS: dict[str, type[ByenatosError]] = {
    "invalid_request_error": InvalidRequest,
    "authentication_error": Unauthenticated,
    "billing_error": QuotaExceeded,
    "permission_error": PermissionDenied,
    "not_found_error": NotFound,
    "conflict_error": InvalidRequest,
    "request_too_large": RequestTooLarge,
    "rate_limit_error": RateLimited,
    "api_error": UpstreamFailed,
    "timeout_error": UpstreamTimeout,
    "overloaded_error": Overloaded,
}
_CODES: dict[str, type[ByenatosError]] = {
    "contract_spend_limit_reached": QuotaExceeded,
    "enforced_spend_limit_reached": QuotaExceeded,
    "linked_organization_billing_unavailable": QuotaExceeded,
    "linked_organization_spend_limit_reached": QuotaExceeded,
}
_TOLD_BY_CODE: tuple[type[ByenatosError], ...] = (
    ContentFiltered,
    ContextLengthExceeded,
    Unsupported,
    Cancelled,
    DeadlineExceeded,
    StreamInterrupted,
)
_CODES |= {kind.code: kind for kind in _TOLD_BY_CODE}
_THREADS = frozenset({"thread_not_found"})
"""Codes by which clients hear that they must send the whole conversation again."""
_QUOTA = re.compile(
    r"credit balance is too low|reached your specified .{0,40}usage limits|spend(?:ing)? limit", re.IGNORECASE
)
_FILTERED = re.compile(r"content filtering policy", re.IGNORECASE)

_TYPES: dict[type[ByenatosError], tuple[int, str]] = {
    ByenatosError: (500, "api_error"),
    InvalidRequest: (400, "invalid_request_error"),
    RequestTooLarge: (413, "request_too_large"),
    Unauthenticated: (401, "authentication_error"),
    PermissionDenied: (403, "permission_error"),
    NotFound: (404, "not_found_error"),
    RateLimited: (429, "rate_limit_error"),
    QuotaExceeded: (402, "billing_error"),
    ContentFiltered: (400, "invalid_request_error"),
    Overloaded: (529, "overloaded_error"),
    Unavailable: (529, "overloaded_error"),
    UpstreamFailed: (500, "api_error"),
    StreamInterrupted: (500, "api_error"),
    UpstreamTimeout: (504, "timeout_error"),
    DeadlineExceeded: (504, "timeout_error"),
    Cancelled: (499, "api_error"),
}
_LONG = "prompt is too long"
"""Words that clients of this API look for to shorten a conversation."""


def decode_error(wire: WireResponse) -> ByenatosError:
    """Read an error from any body, however odd; the vendor's own text is kept."""
    return error_of(body_of(wire), wire)


def error_of(body: Any, wire: WireResponse) -> ByenatosError:
    """Return the error that a decoded body says: this API's, or what a server that imitates it sends instead."""
    found = body.get("error", body) if isinstance(body, Mapping) else None
    error: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    message = next((text for text in (error.get("message"), found, error.get("detail")) if isinstance(text, str)), None)
    details = error.get("details")
    cause = details.get("error_code") if isinstance(details, Mapping) else None
    named = error.get("type")
    code = named if isinstance(named, str) else ""
    kind = cause if isinstance(cause, str) and cause in _CODES else code
    text = text_of(wire) if message is None else message[:MAX_TEXT]
    told = failure(wire, text, code=kind, kinds=_KINDS | _CODES, details=body)
    if told.code == "invalid_request" and _QUOTA.search(text):
        told = failure(wire, text, code=kind, kinds={kind: QuotaExceeded}, details=body)
    elif told.code == "invalid_request" and _FILTERED.search(text):
        told = failure(wire, text, code=kind, kinds={kind: ContentFiltered}, details=body)
    again = wire.headers.get("x-should-retry")
    if again in {"true", "false"}:
        told.retryable = again == "true"
    told.vendor_code = cause if isinstance(cause, str) else code
    return told


def error_object(error: ByenatosError) -> dict[str, Any]:
    """Write an error as the body, or as the data of a stream's last event."""
    _, named = _known(error)
    message = error.message or error.code
    if isinstance(error, ContextLengthExceeded) and _LONG not in message:
        message = f"{_LONG}: {message}"
    inner: dict[str, Any] = {"type": named, "message": message}
    if error.vendor_code in _THREADS:
        inner["details"] = {"error_code": error.vendor_code}
    elif isinstance(error, _TOLD_BY_CODE):
        inner["details"] = {"error_code": error.code}
    return {"type": "error", "error": inner}


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error with the status that this format's clients expect."""
    status, _ = _known(error)
    headers = {"content-type": "application/json"}
    if error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:g}"
    if not error.retryable:
        headers["x-should-retry"] = "false"
    return WireResponse(json_body(error_object(error)), status, headers)


def _known(error: ByenatosError) -> tuple[int, str]:
    return next(_TYPES[kind] for kind in type(error).__mro__ if kind in _TYPES)
