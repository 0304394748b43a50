"""Errors: OpenAI's body, and the odd bodies that servers of its dialects and proxies answer with."""

import math
import re
from typing import Any

from byenatos_sdk.formats.failures import body_of, failure, text_of
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.wire import WireResponse, json_body, read_json
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import Failure

__all__ = ["STATUSES", "decode_error", "encode_error", "error_object", "failed", "found_error", "read_body"]

STATUSES: dict[str, int] = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "request_too_large": 413,
    "unsupported": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "rate_limited": 429,
    "quota_exceeded": 429,
    "content_filtered": 400,
    "overloaded": 503,
    "client_too_slow": 503,
    "unavailable": 503,
    "driver_crashed": 503,
    "draining": 503,
    "upstream_failed": 500,
    "upstream_timeout": 504,
    "stream_interrupted": 500,
    "deadline_exceeded": 504,
    "cancelled": 499,
    "internal": 500,
}
"""The status that OpenAI's clients expect for each error."""

_SAID: dict[str, tuple[str, str | None]] = {
    "invalid_request": ("invalid_request_error", None),
    "context_length_exceeded": ("invalid_request_error", "context_length_exceeded"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "unsupported": ("invalid_request_error", "unsupported_parameter"),
    "unauthenticated": ("invalid_request_error", "invalid_api_key"),
    "permission_denied": ("invalid_request_error", "permission_denied"),
    "not_found": ("invalid_request_error", "model_not_found"),
    "rate_limited": ("requests", "rate_limit_exceeded"),
    "quota_exceeded": ("insufficient_quota", "insufficient_quota"),
    "content_filtered": ("invalid_request_error", "content_filter"),
}
"""Type and code of the errors that OpenAI has words for; the others are ``server_error`` with our own code."""

_PARAMETER = re.compile(r"([a-z_]+(?:\[\d+\]|\.[a-z_]+)*): ")


def _status(code: Any, status: int) -> int:
    """Return the status to go by: the response's own, or, in a stream that began well, a code that looks like one."""
    if status < 400 and isinstance(code, int) and 400 <= code <= 599:
        return code
    if status < 400 and isinstance(code, str) and code.isascii() and code.isdigit() and 400 <= int(code[:4]) <= 599:
        return int(code)
    return status


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json_body(value).decode()


def _words(body: Any) -> tuple[str, Any, str]:
    """Return message, code and type of an error, however its body is built."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return _text(body), None, ""
    if isinstance(body.get("detail"), dict):  # FastAPI's wrapping
        body = body["detail"]
    error = body.get("error") or body.get("errors")
    if isinstance(error, dict):
        message = error.get("message") or error.get("msg") or error.get("error")
        kind = error.get("type") or error.get("status")
        return _text(message) or _text(error), error.get("code"), kind if isinstance(kind, str) else ""
    if error:
        return _text(error), body.get("code") or body.get("error_type"), ""
    message = body.get("message") or body.get("detail") or body.get("msg") or body.get("title")
    kind = body.get("type")
    code = body.get("code") or body.get("status")
    return _text(message) or _text(body), code, kind if isinstance(kind, str) else ""


def found_error(profile: Profile, wire: WireResponse, body: Any) -> ByenatosError:
    """Build the error that a decoded body tells of."""
    foreign = profile.error_of(wire, body)
    if foreign is not None:
        return foreign
    message, code, kind = _words(body)
    status = _status(code, wire.status)
    said = str(code) if isinstance(code, int | str) and not isinstance(code, bool) else ""
    # The code says more than the type, unless only the type is known.
    word = said if profile.kind(said, status) or not profile.kind(kind, status) else kind
    known = profile.kind(word, status)
    asked = wire.headers.get("x-should-retry")
    error = failure(
        WireResponse(wire.body, status, wire.headers),
        message,
        code=word,
        kinds={} if known is None else {word: known},
        details=body,
        retryable={"true": True, "false": False}.get(asked or ""),
    )
    error.vendor_code = said or kind
    error.vendor_status = wire.status
    return error


def decode_error(profile: Profile, wire: WireResponse) -> ByenatosError:
    """Read an error from any body, however odd; the vendor's own text is kept."""
    body = body_of(wire)
    return found_error(profile, wire, text_of(wire) if body is None else body)


def read_body(profile: Profile, wire: WireResponse) -> Any:
    """Return the JSON of an answer.

    Raises:
        ByenatosError: the status says that it is an error, or it is no JSON.
    """
    if wire.status >= 400:
        raise decode_error(profile, wire)
    try:
        return read_json(wire.body)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None


def error_object(code: str, message: str) -> dict[str, Any]:
    """Write an error's object as OpenAI does; the field at fault, which our messages begin with, is named."""
    kind, said = _SAID.get(code, ("server_error", code))
    named = _PARAMETER.match(message) if kind == "invalid_request_error" else None
    return {"message": message, "type": kind, "param": named and named[1], "code": said}


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error, with the headers by which OpenAI's clients decide when to try again."""
    headers = {"content-type": "application/json", "x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
        headers["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1000))
    body = json_body({"error": error_object(error.code, error.message)})
    return WireResponse(body, STATUSES.get(error.code, 500), headers)


def failed(error: ByenatosError, *, partial: bool) -> Failure:
    """Return the end of a stream that ``error`` cut."""
    return Failure(error.code, error.message, error.retry_after_s, partial=partial)
