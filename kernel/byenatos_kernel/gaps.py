"""How long a stream may be silent before its place is taken to hang, although its process lives and its heart beats.

Two limits count. The request's own (``gap_timeout_s``) is taken at its word, before the first delta as between two. The
model's (``gap_timeout`` of its configuration) is the operator's guess at what is no work any more:

- Before the first delta reading the prompt is work, and so is waiting behind others where an engine takes one after the
  other. So the first gap may be :data:`FIRST` times as long, is counted from when the stream came to this place, and
  begins anew with each word that a neighbour is answered.
- Between two deltas a whole tool call may be written, of which nothing is shown before it is complete. So the guess is
  generous (:data:`GAP_S`), and for vendors behind an API, where the driver sees the bytes that come and has a limit of
  its own (``gap_s``), there is none unless the operator says so.

A client that does not read is no silence of the driver's.
"""

from byenatos_kernel.models import ModelEntry
from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.errors import DeadlineExceeded

__all__ = ["FIRST", "GAP_S", "overdue"]

FIRST = 5.0
GAP_S = 120.0


def overdue(stream: Stream, now: float) -> DeadlineExceeded | None:
    """Say that nothing came for too long, or return ``None``."""
    if stream.gap_s and now - stream.progress > stream.gap_s:
        return DeadlineExceeded(f"nothing came for {stream.gap_s:g} s (gap_timeout_s)")
    if stream.instance is None:
        return None
    gap_s = _gap_of(stream.instance.model)
    if not gap_s or now - stream.progress <= gap_s:
        return None
    if not stream.answered:
        gap_s *= FIRST
        heard = [one.progress for one in stream.instance.streams.values() if one.answered and not one.lag]
        if now - max(stream.progress, *heard, 0.0) <= gap_s:
            return None
    return DeadlineExceeded(f"{stream.instance.model.id} said nothing for {gap_s:g} s (its gap_timeout)")


def _gap_of(model: ModelEntry) -> float:
    """Seconds between two deltas of ``model``; 0: any."""
    if model.gap_timeout_s is not None:
        return model.gap_timeout_s
    return GAP_S if model.path is not None else 0.0
