"""Errors: a flat body with a code, a message and a request's id; the compatible mode has OpenAI's body.

Source: https://help.aliyun.com/zh/model-studio/error-code.
"""

from typing import Any

from byenatos_sdk.formats.failures import body_of, failure, is_context, text_of
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContentFiltered,
    ContextLengthExceeded,
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

__all__ = ["decode_error", "encode_error", "error_body", "error_of"]

_KINDS: dict[str, type[ByenatosError]] = {
    "InvalidParameter": InvalidRequest,
    "InvalidParameter.DataInspection": InvalidRequest,
    "BadRequest.TooLarge": RequestTooLarge,
    "InvalidApiKey": Unauthenticated,
    "invalid_api_key": Unauthenticated,
    "NOT AUTHORIZED": PermissionDenied,
    "AccessDenied": PermissionDenied,
    "AccessDenied.Unpurchased": QuotaExceeded,
    "Model.AccessDenied": PermissionDenied,
    "App.AccessDenied": PermissionDenied,
    "Workspace.AccessDenied": PermissionDenied,
    "access_denied": PermissionDenied,
    "ModelNotFound": NotFound,
    "Model.NotFound": NotFound,
    "model_not_found": NotFound,
    "model_not_supported": NotFound,
    "WorkSpaceNotFound": NotFound,
    "NotFound": NotFound,
    "Throttling": RateLimited,
    "Throttling.AllocationQuota": QuotaExceeded,
    "LimitRequests": RateLimited,
    "limit_requests": RateLimited,
    "insufficient_quota": QuotaExceeded,
    "AllocationQuota": QuotaExceeded,
    "Arrearage": QuotaExceeded,
    "CommodityNotPurchased": QuotaExceeded,
    "PrepaidBillOverdue": QuotaExceeded,
    "PostpaidBillOverdue": QuotaExceeded,
    "DataInspectionFailed": ContentFiltered,
    "data_inspection_failed": ContentFiltered,
    "UnsupportedOperation": Unsupported,
    "ModelServingError": Overloaded,
    "ModelUnavailable": Overloaded,
    "ServiceUnavailable": Overloaded,
    "InternalError": UpstreamFailed,
    "internal_error": UpstreamFailed,
    "InternalError.Timeout": UpstreamTimeout,
    "RequestTimeOut": UpstreamTimeout,
    "ResponseTimeout": UpstreamTimeout,
}

_CODES: dict[type[ByenatosError], tuple[int, str]] = {
    RequestTooLarge: (413, "BadRequest.TooLarge"),
    Unsupported: (400, "UnsupportedOperation"),
    InvalidRequest: (400, "InvalidParameter"),
    Unauthenticated: (401, "InvalidApiKey"),
    PermissionDenied: (403, "AccessDenied"),
    NotFound: (404, "ModelNotFound"),
    RateLimited: (429, "Throttling.RateQuota"),
    QuotaExceeded: (429, "Throttling.AllocationQuota"),
    ContentFiltered: (400, "DataInspectionFailed"),
    Overloaded: (503, "ServiceUnavailable"),
    UpstreamTimeout: (504, "InternalError.Timeout"),
    UpstreamFailed: (500, "InternalError"),
    StreamInterrupted: (500, "InternalError"),
    Unavailable: (503, "ServiceUnavailable"),
    ByenatosError: (500, "InternalError"),
}


def decode_error(wire: WireResponse) -> ByenatosError:
    """Read an error from any body: the native one, the compatible mode's, or no JSON at all."""
    return error_of(body_of(wire), wire)


def error_of(body: Any, wire: WireResponse) -> ByenatosError:
    """Return the error that a body stands for. Where the status says nothing it is taken for the server's failure."""
    found = body.get("error") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        found = body if isinstance(body, dict) else {}
    code, message = found.get("code"), found.get("message") or found.get("msg")
    said = found.get("status_code")
    status = wire.status if wire.status >= 400 else said if isinstance(said, int) and 400 <= said < 600 else 500
    error = failure(
        WireResponse(wire.body, status, wire.headers),
        message if isinstance(message, str) else text_of(wire),
        code=str(code) if isinstance(code, str | int) else "",
        kinds=_KINDS,
    )
    error.vendor_status = wire.status
    return error


def error_body(error: ByenatosError, request_id: str = "") -> tuple[int, bytes]:
    """Return the status and the body that say ``error``."""
    status, code = next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    message = error.message or error.code
    if isinstance(error, ContextLengthExceeded) and not is_context(message):
        message = f"Range of input length should be smaller: {message}"
    return status, json_body({"code": code, "message": message, "request_id": request_id})


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error with the code and status that DashScope's clients expect."""
    status, body = error_body(error)
    headers = {"content-type": "application/json"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(0, round(error.retry_after_s)))
    return WireResponse(body, status, headers)
