"""Errors, both ways: ``{"error": {"code", "message", "status", "details"}}``, alone or in an array.

``details`` are google.rpc messages: ``RetryInfo`` says how long to wait, ``QuotaFailure`` whether that helps,
``ErrorInfo`` what was meant. The last one also carries the stable code of an error of this project, under a domain of
its own, so that the error keeps its meaning on its way through this format.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from byenatos_sdk.formats.failures import MAX_TEXT, body_of, failure, text_of
from byenatos_sdk.formats.gemini.shapes import JSON
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    Cancelled,
    ContentFiltered,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
    error_codes,
    error_from_code,
)

__all__ = ["decode_error", "encode_error", "error_object", "error_of"]

_KINDS: dict[str, type[ByenatosError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "ALREADY_EXISTS": InvalidRequest,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "RESOURCE_EXHAUSTED": RateLimited,
    "UNIMPLEMENTED": Unsupported,
    "INTERNAL": UpstreamFailed,
    "UNKNOWN": UpstreamFailed,
    "DATA_LOSS": UpstreamFailed,
    "ABORTED": UpstreamFailed,
    "UNAVAILABLE": Overloaded,
    "DEADLINE_EXCEEDED": UpstreamTimeout,
    "CANCELLED": Cancelled,
    "API_KEY_INVALID": Unauthenticated,
    "API_KEY_EXPIRED": Unauthenticated,
    "API_KEY_SERVICE_BLOCKED": PermissionDenied,
    "BILLING_DISABLED": QuotaExceeded,
}
"""By status, and by the reason of an ``ErrorInfo``."""
_LASTING = re.compile(r"perday|per_day|permonth", re.IGNORECASE)
"""Quotas for which waiting some seconds does not help."""
_NO_QUOTA = re.compile(r"\blimit: 0\b")
_KEY = re.compile(r"API key (?:not valid|expired|not found)", re.IGNORECASE)
_DOMAIN = "byenatos"

_STATUSES: dict[type[ByenatosError], tuple[int, str]] = {
    ByenatosError: (500, "INTERNAL"),
    InvalidRequest: (400, "INVALID_ARGUMENT"),
    RequestTooLarge: (400, "INVALID_ARGUMENT"),
    ContentFiltered: (400, "INVALID_ARGUMENT"),
    Unauthenticated: (401, "UNAUTHENTICATED"),
    PermissionDenied: (403, "PERMISSION_DENIED"),
    NotFound: (404, "NOT_FOUND"),
    RateLimited: (429, "RESOURCE_EXHAUSTED"),
    QuotaExceeded: (429, "RESOURCE_EXHAUSTED"),
    Overloaded: (503, "UNAVAILABLE"),
    Unavailable: (503, "UNAVAILABLE"),
    UpstreamFailed: (500, "INTERNAL"),
    UpstreamTimeout: (504, "DEADLINE_EXCEEDED"),
    DeadlineExceeded: (504, "DEADLINE_EXCEEDED"),
    Cancelled: (499, "CANCELLED"),
}


def decode_error(wire: WireResponse) -> ByenatosError:
    """Read an error from any body, however odd; the vendor's own text is kept."""
    return error_of(body_of(wire), wire)


def error_of(body: Any, wire: WireResponse) -> ByenatosError:
    """Return the error that a decoded body says."""
    if isinstance(body, list) and body:
        body = body[0]
    found = body.get("error", body) if isinstance(body, Mapping) else None
    error: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    message = next((text for text in (error.get("message"), found) if isinstance(text, str)), None)
    text = text_of(wire) if message is None else message
    status = error.get("status")
    code = status if isinstance(status, str) else ""
    details = [one for one in _list(error.get("details")) if isinstance(one, Mapping)]
    kind = _kind(code, text[:MAX_TEXT], details)
    number = error.get("code")
    if wire.status < 400 and isinstance(number, int) and 400 <= number < 600:
        wire = WireResponse(wire.body, number, wire.headers)  # an error within a stream has no status of its own
    told = failure(wire, text, code=code, kinds={code: kind} if kind is not None else None, details=body)
    told.vendor_code = code
    return told


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _kind(status: str, message: str, details: list[Mapping[str, Any]]) -> type[ByenatosError] | None:
    for detail in details:
        reason = detail.get("reason")
        if detail.get("domain") == _DOMAIN and isinstance(reason, str) and reason.lower() in error_codes():
            return type(error_from_code(reason.lower(), ""))
        if isinstance(reason, str) and reason in _KINDS:
            return _KINDS[reason]
    if status == "RESOURCE_EXHAUSTED" and (_NO_QUOTA.search(message) or _lasting(details)):
        return QuotaExceeded
    if status in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"} and _KEY.search(message):
        return Unauthenticated
    return _KINDS.get(status)


def _lasting(details: list[Mapping[str, Any]]) -> bool:
    violations = [one for detail in details for one in _list(detail.get("violations")) if isinstance(one, Mapping)]
    return any(_LASTING.search(f"{one.get('quotaId')} {one.get('quotaMetric')}") for one in violations)


def error_object(error: ByenatosError) -> dict[str, Any]:
    """Write an error as the body, or as a stream's last piece: ``error`` first, for clients look for it there."""
    code, status = _known(error)
    details: list[dict[str, Any]] = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code.upper(), "domain": _DOMAIN}
    ]
    if error.retry_after_s is not None:
        delay = f"{error.retry_after_s:.9f}".rstrip("0").rstrip(".") + "s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {"error": {"code": code, "message": error.message or error.code, "status": status, "details": details}}


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error with the status that this format's clients expect."""
    code, _ = _known(error)
    headers = dict(JSON)
    if error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:g}"
    return WireResponse(json_body(error_object(error)), code, headers)


def _known(error: ByenatosError) -> tuple[int, str]:
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
