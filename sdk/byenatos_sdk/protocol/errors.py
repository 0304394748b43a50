"""One tree of errors, each with a stable code that travels on the wire.

::

    ByenatosError                    internal
    ├── InvalidRequest               invalid_request
    │   ├── ContextLengthExceeded    context_length_exceeded
    │   ├── RequestTooLarge          request_too_large
    │   └── Unsupported              unsupported
    ├── Unauthenticated              unauthenticated
    ├── PermissionDenied             permission_denied
    ├── NotFound                     not_found
    ├── RateLimited                  rate_limited
    ├── QuotaExceeded                quota_exceeded
    ├── ContentFiltered              content_filtered
    ├── Overloaded                   overloaded
    │   └── ClientTooSlow            client_too_slow
    ├── Unavailable                  unavailable
    │   ├── DriverCrashed            driver_crashed
    │   ├── Draining                 draining
    │   ├── UpstreamFailed           upstream_failed
    │   ├── UpstreamTimeout          upstream_timeout
    │   └── StreamInterrupted        stream_interrupted
    ├── DeadlineExceeded             deadline_exceeded
    └── Cancelled                    cancelled

A code that this build does not know decodes to ``internal``: an old client never fails on a new code.
"""

from typing import ClassVar

__all__ = [
    "ByenatosError",
    "Cancelled",
    "ClientTooSlow",
    "ContentFiltered",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "Draining",
    "DriverCrashed",
    "InvalidRequest",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "QuotaExceeded",
    "RateLimited",
    "RequestTooLarge",
    "StreamInterrupted",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "UpstreamFailed",
    "UpstreamTimeout",
    "error_codes",
    "error_from_code",
]


class ByenatosError(Exception):
    """Something failed inside; the message says what. Report it with the kernel's log."""

    code: ClassVar[str] = "internal"
    retryable: bool = False
    """Whether the same request may succeed later; on an instance, what the vendor said."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        partial: bool = False,
        vendor_code: str = "",
        vendor_status: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.partial = partial
        self.vendor_code = vendor_code
        self.vendor_status = vendor_status


class InvalidRequest(ByenatosError):
    """The request cannot be served as written. Change it as the message says; repeating it will not help."""

    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    """The conversation is longer than the model's context. Shorten it or swap to a model with a longer one."""

    code = "context_length_exceeded"


class RequestTooLarge(InvalidRequest):
    """The request is bigger than the vendor takes. Send less: smaller images, a shorter conversation."""

    code = "request_too_large"


class Unsupported(InvalidRequest):
    """The model or its API cannot do what the message names. Leave it out, or swap to a model that can."""

    code = "unsupported"


class Unauthenticated(ByenatosError):
    """The vendor or the kernel does not know the caller. Check the key that the message names."""

    code = "unauthenticated"


class PermissionDenied(ByenatosError):
    """The caller is known but may not do this. Ask the operator for the grant that the message names."""

    code = "permission_denied"


class NotFound(ByenatosError):
    """No such slot, model, session or plugin. The message lists what exists."""

    code = "not_found"


class RateLimited(ByenatosError):
    """Too many requests in too short a time. Wait ``retry_after_s`` seconds."""

    code = "rate_limited"
    retryable = True


class QuotaExceeded(ByenatosError):
    """The account's credit or daily quota is used up. Waiting some seconds does not help; look at the account."""

    code = "quota_exceeded"


class ContentFiltered(ByenatosError):
    """The vendor refused the content. Rephrase, or swap to another model."""

    code = "content_filtered"


class Overloaded(ByenatosError):
    """A queue or a cap is full. Retry later; nothing was started, unless ``partial`` is set."""

    code = "overloaded"
    retryable = True


class ClientTooSlow(Overloaded):
    """The client did not read its stream and too much text was waiting for it. Read faster, or pause streams."""

    code = "client_too_slow"


class Unavailable(ByenatosError):
    """No instance can serve this now. Retry after ``retry_after_s``, or look at ``byenatos status``."""

    code = "unavailable"
    retryable = True


class DriverCrashed(Unavailable):
    """The driver's process died or hung. The message carries its last output lines."""

    code = "driver_crashed"


class Draining(Unavailable):
    """The kernel or the instance is stopping and takes no new work. Retry when it is up again."""

    code = "draining"


class UpstreamFailed(Unavailable):
    """The vendor's server failed. Retry, or swap to another model."""

    code = "upstream_failed"


class UpstreamTimeout(Unavailable):
    """The vendor's server did not answer in its time. Retry, or swap to another model."""

    code = "upstream_timeout"


class StreamInterrupted(Unavailable):
    """The vendor's stream broke off before its end. What came is not a whole answer."""

    code = "stream_interrupted"


class DeadlineExceeded(ByenatosError):
    """The request's own time limit passed. Raise ``timeout_s`` or ``gap_timeout_s``, or ask for less."""

    code = "deadline_exceeded"


class Cancelled(ByenatosError):
    """The caller cancelled the request."""

    code = "cancelled"


def _tree(root: type[ByenatosError]) -> list[type[ByenatosError]]:
    return [root, *(error for child in root.__subclasses__() for error in _tree(child))]


_BY_CODE: dict[str, type[ByenatosError]] = {error.code: error for error in _tree(ByenatosError)}


def error_codes() -> tuple[str, ...]:
    """Return every stable code, in the order of the tree."""
    return tuple(_BY_CODE)


def error_from_code(
    code: str, message: str, *, retry_after_s: float | None = None, partial: bool = False
) -> ByenatosError:
    """Build the exception for a code from the wire; an unknown code becomes ``internal`` and is named."""
    kind = _BY_CODE.get(code)
    if kind is None:
        return ByenatosError(f"{message} [unknown code {code!r}]", retry_after_s=retry_after_s, partial=partial)
    return kind(message, retry_after_s=retry_after_s, partial=partial)
