"""Errors: an envelope with a code and a message, always with the status 200.

Sources: https://cloud.tencent.com/document/product/1729/105701, and the client's ``errorcodes`` (3.1.180).
"""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.failures import body_of, failure, is_context, text_of
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
    Unauthenticated,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)

__all__ = ["TIMEOUT", "decode_error", "encode_error", "message_error"]

TIMEOUT = 4001
"""An ``ErrorMsg``'s code for an engine that took too long; every other one is the engine's failure."""

_KINDS: dict[str, type[ByenatosError]] = {
    "AuthFailure": Unauthenticated,
    "AuthFailure.UnauthorizedOperation": PermissionDenied,
    "UnauthorizedOperation": PermissionDenied,
    "RequestLimitExceeded": RateLimited,
    "LimitExceeded": RateLimited,
    "FailedOperation": UpstreamFailed,
    "FailedOperation.EngineRequestTimeout": UpstreamTimeout,
    "FailedOperation.EngineServerLimitExceeded": RateLimited,
    "FailedOperation.FreeResourcePackExhausted": QuotaExceeded,
    "FailedOperation.ResourcePackExhausted": QuotaExceeded,
    "FailedOperation.ServiceStopArrears": QuotaExceeded,
    "FailedOperation.ServiceStop": PermissionDenied,
    "FailedOperation.ServiceNotActivated": PermissionDenied,
    "FailedOperation.PartnerAccountUnSupport": PermissionDenied,
    "FailedOperation.UserUnAuthError": PermissionDenied,
    "FailedOperation.ImageDecodeFailed": InvalidRequest,
    "FailedOperation.ImageDownloadError": InvalidRequest,
    "FailedOperation.GenerateImageFailed": ContentFiltered,
    "InvalidAction": InvalidRequest,
    "InvalidParameter": InvalidRequest,
    "InvalidParameterValue": InvalidRequest,
    "InvalidParameterValue.Model": NotFound,
    "MissingParameter": InvalidRequest,
    "UnknownParameter": InvalidRequest,
    "NoSuchVersion": InvalidRequest,
    "UnsupportedOperation": Unsupported,
    "UnsupportedProtocol": InvalidRequest,
    "UnsupportedRegion": InvalidRequest,
    "OperationDenied": PermissionDenied,
    "OperationDenied.ImageIllegalDetected": ContentFiltered,
    "OperationDenied.TextIllegalDetected": ContentFiltered,
    "RequestSizeLimitExceeded": RequestTooLarge,
    "ResourceInsufficient": QuotaExceeded,
    "ResourceNotFound": NotFound,
    "ResourceUnavailable": Overloaded,
    "ResourceUnavailable.InArrears": QuotaExceeded,
    "ResourceUnavailable.LowBalance": QuotaExceeded,
    "ResourceUnavailable.StopUsing": QuotaExceeded,
    "ResourceUnavailable.NotExist": PermissionDenied,
    "ServiceUnavailable": Overloaded,
    "InternalError": UpstreamFailed,
}

_CODES: dict[type[ByenatosError], str] = {
    ContextLengthExceeded: "InvalidParameterValue",
    RequestTooLarge: "RequestSizeLimitExceeded",
    Unsupported: "UnsupportedOperation",
    InvalidRequest: "InvalidParameter",
    Unauthenticated: "AuthFailure.SignatureFailure",
    PermissionDenied: "UnauthorizedOperation",
    NotFound: "InvalidParameterValue.Model",
    RateLimited: "RequestLimitExceeded",
    QuotaExceeded: "FailedOperation.ResourcePackExhausted",
    ContentFiltered: "OperationDenied.TextIllegalDetected",
    Overloaded: "ServiceUnavailable",
    UpstreamTimeout: "FailedOperation.EngineRequestTimeout",
    DeadlineExceeded: "FailedOperation.EngineRequestTimeout",
    UpstreamFailed: "FailedOperation.EngineServerError",
    Unavailable: "ServiceUnavailable",
    ByenatosError: "InternalError",
}


def envelope_of(body: Any) -> Mapping[str, Any]:
    """Return what the envelope holds; a body without one is taken for what should be in it."""
    if not isinstance(body, dict):
        return {}
    inner = body.get("Response")
    return inner if isinstance(inner, dict) else body


def decode_error(wire: WireResponse) -> ByenatosError:
    """Read an error from any body: in the envelope, in OpenAI's form (TokenHub), or no JSON at all."""
    body = body_of(wire)
    inner = envelope_of(body)
    told = inner.get("ErrorMsg")
    if isinstance(told, dict):
        return message_error(told)
    found = inner.get("Error")
    found = found if isinstance(found, dict) else inner.get("error")
    found = found if isinstance(found, dict) else {}
    code = found.get("Code", found.get("code"))
    message = found.get("Message", found.get("message"))
    status = wire.status if wire.status >= 400 else 500
    error = failure(
        WireResponse(wire.body, status, wire.headers),
        message if isinstance(message, str) else text_of(wire),
        code=str(code) if isinstance(code, str | int) else "",
        kinds=_KINDS,
    )
    error.vendor_status = wire.status
    return error


def message_error(told: Mapping[str, Any]) -> ByenatosError:
    """Return the error that an ``ErrorMsg`` in an answer or a stream stands for."""
    code, message = told.get("Code"), told.get("Msg")
    kind = UpstreamTimeout if code == TIMEOUT else UpstreamFailed
    text = message if isinstance(message, str) and message else "the vendor's engine failed and said nothing"
    return kind(text[:4096], vendor_code=str(code) if isinstance(code, str | int) else "", vendor_status=200)


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error as Hunyuan's clients expect it: with the status 200."""
    code = next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    message = error.message or error.code
    if isinstance(error, ContextLengthExceeded) and not is_context(message):
        message = f"input exceeds the context length: {message}"
    body = {"Response": {"Error": {"Code": code, "Message": message}, "RequestId": ""}}
    return WireResponse(json_body(body), 200, {"content-type": "application/json"})
