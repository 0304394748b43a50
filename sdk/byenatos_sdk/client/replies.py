"""What the kernel's answers to the handshake and to control calls mean: the same for both shells."""

from typing import TypeVar

import msgspec

from byenatos_sdk.client.core import KernelNotRunning
from byenatos_sdk.protocol.answer import error_from
from byenatos_sdk.protocol.control import Event
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded, Unavailable
from byenatos_sdk.protocol.frames import ClientEvent, Notice, Refused, Reply, Welcome
from byenatos_sdk.protocol.messages import Failure, SwapEvent, SwapState

__all__ = ["GRACE_S", "check_swap", "check_welcome", "gone_away", "news_in", "overdue", "result_in"]

GRACE_S = 5.0
"""How long after a request's own ``timeout_s`` a client waits for the kernel, whose task it is, to say so."""

_Result = TypeVar("_Result")


def check_welcome(event: ClientEvent | None, endpoint: str, timeout_s: float) -> None:
    """Raise unless the handshake was answered with ``Welcome``; ``None`` stands for no answer in time."""
    if isinstance(event, Welcome):
        return
    if isinstance(event, Refused):
        raise Unavailable(f"the kernel at {endpoint} refused this client: {event.reason}")
    if event is None:
        raise KernelNotRunning(
            f"no kernel answers at {endpoint} within {timeout_s:g} s although something listens there; "
            "see `byenatos status`, or stop it and start one with `byenatos up`"
        )
    raise KernelNotRunning(
        f"no kernel answers at {endpoint}: the connection ended before the handshake; start one with `byenatos up`"
    )


def gone_away(endpoint: str) -> str:
    """Say why a connection ended that the kernel did not end by word."""
    return f"the kernel at {endpoint} went away; open a new client when it is up again"


def news_in(event: ClientEvent | None) -> Event | None:
    """Return what a call's ``Notice`` carries; ``None`` for any other event."""
    return _decode(event.body, Event) if isinstance(event, Notice) else None  # type: ignore[arg-type]


def result_in(event: ClientEvent | None, result: type[_Result]) -> _Result:
    """Return what a call's ``Reply`` carries.

    Raises:
        ByenatosError: the error that a ``Failure`` stands for.
    """
    if isinstance(event, Reply):
        return _decode(event.body, result)
    if isinstance(event, Failure):
        raise error_from(event)
    raise ByenatosError(f"expected the reply of a call, found {type(event).__name__}; kernel and client disagree")


def check_swap(swap: SwapEvent) -> SwapEvent:
    """Return a swap that succeeded; raise ``Unavailable`` for one that failed."""
    if swap.state is SwapState.FAILED:
        raise Unavailable(
            f"swap {swap.id} of slot {swap.slot} from {swap.source} to {swap.target} failed: {swap.detail}; "
            f"the slot still answers as before"
        )
    return swap


def overdue(timeout_s: float, *, partial: bool) -> DeadlineExceeded:
    """Build the error for a kernel that did not end a request in its time."""
    return DeadlineExceeded(
        f"the kernel did not end the request within timeout_s={timeout_s:g} and {GRACE_S:g} s more; "
        "see whether it is stuck with `byenatos status`",
        partial=partial,
    )


def _decode(body: bytes, kind: type[_Result]) -> _Result:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except ValueError as error:
        name = getattr(kind, "__name__", str(kind))
        raise ByenatosError(
            f"expected {name} from the kernel, found something else: {error}; use the same release"
        ) from error
