"""Every vendor's errors to the one taxonomy: by code where there is one, then by words, then by status.

Each format names its own codes; what is common stands here: statuses, words that vendors use for the same thing, and
where a retry hint may hide. The vendor's own text is kept.
"""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from byenatos_sdk.formats.wire import WireResponse, read_json
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)

__all__ = ["MAX_TEXT", "body_of", "by_status", "failure", "retry_after", "text_of"]

MAX_TEXT = 4096
"""Characters of a vendor's error text that are kept."""

_STATUSES: dict[int, type[ByenatosError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    402: QuotaExceeded,
    403: PermissionDenied,
    404: NotFound,
    405: InvalidRequest,
    408: UpstreamTimeout,
    409: InvalidRequest,
    413: RequestTooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    424: UpstreamFailed,
    429: RateLimited,
    499: DeadlineExceeded,
    500: UpstreamFailed,
    501: Unsupported,
    502: UpstreamFailed,
    503: Overloaded,
    504: UpstreamTimeout,
    529: Overloaded,
}

_CONTEXT = re.compile(
    r"prompt is too long|context[_ ](?:length|window|size)|maximum context|input token count .{0,80}exceed"
    r"|tokens_too_long|exceeds? the (?:available|maximum) context|range of input length"
    r"|inputs`? tokens .{0,40}max_new_tokens|must have less than \d+ tokens|exceed_context_size",
    re.IGNORECASE | re.DOTALL,
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def by_status(status: int) -> type[ByenatosError]:
    """Return the error that an HTTP status stands for where nothing else is known."""
    kind = _STATUSES.get(status)
    if kind is not None:
        return kind
    return InvalidRequest if 400 <= status < 500 else UpstreamFailed


def failure(
    wire: WireResponse,
    message: str,
    *,
    code: str = "",
    kinds: Mapping[str, type[ByenatosError]] | None = None,
    details: Any = None,
    retryable: bool | None = None,
) -> ByenatosError:
    """Build the error of a response: ``kinds`` are the format's codes, tried before words and the status.

    A code that is not in ``kinds`` is tried without what follows its first full stop (``Throttling.RateQuota``).
    ``details`` is the decoded body, in which a retry hint may stand.
    """
    known = kinds or {}
    kind = known.get(code) or known.get(code.partition(".")[0])
    if kind is None or kind is InvalidRequest:
        if _CONTEXT.search(message[:MAX_TEXT]) or _CONTEXT.search(code):
            kind = ContextLengthExceeded
        elif kind is None:
            kind = by_status(wire.status)
    text = message.strip()[:MAX_TEXT] or f"the vendor answered with status {wire.status} and no text"
    error = kind(
        text,
        retry_after_s=retry_after(wire.headers, details),
        vendor_code=code,
        vendor_status=wire.status,
    )
    if retryable is not None:
        error.retryable = retryable
    return error


def retry_after(headers: Mapping[str, str], body: Any = None) -> float | None:
    """Return the seconds that a vendor asks to wait, wherever it says so; ``None`` if it does not.

    In order: ``retry-after-ms``; ``retry-after`` in seconds or as a date (one that is past: 0); google's ``RetryInfo``;
    Hugging Face's ``estimated_time``; ``anthropic-ratelimit-*-reset`` and ``x-ratelimit-reset-*`` where nothing
    remains.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    plain = headers.get("retry-after", "")
    seconds = _number(plain)
    if seconds is None and plain:
        seconds = _until(plain)
    if seconds is None:
        seconds = _in_body(body)
    if seconds is None:
        seconds = _reset(headers)
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and 0 <= abs(value) < 1e9 else None


def _until(text: str) -> float | None:
    """Return the seconds until a date, as HTTP or RFC 3339 write it."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    try:
        return moment.timestamp() - time.time()
    except (OverflowError, OSError, ValueError):
        return None


def _duration(text: str) -> float | None:
    """Return the seconds of a Go duration: ``1m30s``, ``20ms``."""
    parts = _DURATION.findall(text[:64])
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _in_body(body: Any) -> float | None:
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return None
    estimate = body.get("estimated_time")
    if isinstance(estimate, int | float) and 0 <= estimate < 1e9:
        return float(estimate)
    error = body.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return _duration(detail["retryDelay"])
    return None


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return how long until the limit that is used up begins anew."""
    waits: list[float] = []
    for name, value in headers.items():
        if name.startswith("anthropic-ratelimit-") and name.endswith("-reset"):
            remaining, wait = headers.get(name.removesuffix("-reset") + "-remaining"), _until(value)
        elif name.startswith("x-ratelimit-reset-"):
            remaining, wait = headers.get(name.replace("-reset-", "-remaining-")), _duration(value)
        else:
            continue
        if remaining == "0" and wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def body_of(wire: WireResponse) -> Any:
    """Return a response's JSON, or ``None`` if it is none (an HTML page of some proxy, an empty body)."""
    try:
        return read_json(wire.body)
    except InvalidRequest:
        return None


def text_of(wire: WireResponse) -> str:
    """Return a body that is no JSON as text, without the tags of a page."""
    text = wire.body[: 4 * MAX_TEXT].decode("utf-8", "replace")
    if "<" in text and ">" in text:
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]{0,512}>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(text.split())[:MAX_TEXT]
