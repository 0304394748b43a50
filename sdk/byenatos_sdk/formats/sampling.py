"""Sampling parameters and the ranges of formats.

What a client asks is refused beyond the ranges of the format that it speaks; what goes out in another format is clamped
to that one's, and stop sequences that cannot be said are cut by the reader.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats.capabilities import Capabilities, Limit
from byenatos_sdk.formats.matrix import PARAMETERS
from byenatos_sdk.formats.wire import Action
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Sampling

__all__ = ["check_ranges", "fit_sampling"]

_WHOLE = frozenset({"top_k", "max_tokens", "seed", "logprobs"})
"""Parameters that are whole numbers; of the others one may be written without a fraction, and is clamped to one."""

_CHECKED = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs")
"""Parameters whose ranges every vendor refuses to leave."""

_NOTHING = {"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "min_p": 0, "top_k": 0}
"""With these values parameters do nothing: who says so, as many clients do, loses nothing where they are unknown."""

Lose = Callable[[str, Action, str], None]


def check_ranges(sampling: Sampling, of: Capabilities) -> None:
    """Look whether a client's parameters are within the ranges of its own format.

    Raises:
        InvalidRequest: one is not.
    """
    for name in _CHECKED:
        value = getattr(sampling, name)
        limit = of.parameters.get(name)
        if value is None or limit is None:
            continue
        if (limit.low is not None and value < limit.low) or (limit.high is not None and value > limit.high):
            raise InvalidRequest(f"{limit.wire}: expected {_range(limit)}, found {value:g}")


def fit_sampling(sampling: Sampling, to: Capabilities, lose: Lose) -> tuple[Sampling, tuple[str, ...]]:
    """Return ``sampling`` as ``to`` can say it, and the stop sequences that it cannot; ``lose`` hears every loss."""
    changes: dict[str, Any] = {}
    cut: tuple[str, ...] = ()
    for name in PARAMETERS:
        value = getattr(sampling, name)
        limit = to.parameters.get(name)
        if value in (None, (), {}):
            if limit is not None and limit.required is not None:
                changes[name] = limit.required
        elif name == "stop":
            changes[name] = _sayable(value, limit)
            cut = tuple(stop for stop in value if stop not in changes[name])
            if cut:
                what = "has no stop sequences" if limit is None else "takes fewer or shorter ones"
                lose(name, "emulated", f"{to.format} {what}: the answer is cut at the rest")
        elif limit is None:
            if value != _NOTHING.get(name):
                lose(name, "dropped", f"{to.format} has no such parameter")
            changes[name] = {} if name == "logit_bias" else None
        elif name == "logit_bias":
            changes[name] = _clamped_biases(value, limit, to, lose)
        elif name == "top_k" and value == 0 and limit.low is not None and limit.low > 0:
            lose(name, "dropped", f"{to.format} cannot switch it off")
            changes[name] = None
        elif value != limit.omit_at:
            clamped = _clamped(name, value, limit, to, lose)
            changes[name] = int(clamped) if name in _WHOLE else clamped
    return replace(sampling, **changes), cut


def _sayable(stops: tuple[str, ...], limit: Limit | None) -> tuple[str, ...]:
    if limit is None:
        return ()
    if limit.length is not None:
        stops = tuple(stop for stop in stops if len(stop) <= limit.length)
    return stops[: limit.items]


def _clamped(name: str, value: float, limit: Limit, to: Capabilities, lose: Lose) -> float:
    clamped = value
    if limit.low is not None and (value < limit.low or (limit.low_open and value == limit.low)):
        clamped = limit.low + (limit.step if limit.low_open else 0)
    elif limit.high is not None and (value > limit.high or (limit.high_open and value == limit.high)):
        clamped = limit.high - (limit.step if limit.high_open else 0)
    if clamped != value:
        lose(name, "clamped", f"{to.format} takes {_range(limit)}, found {value:g}")
    return clamped


def _clamped_biases(biases: dict[int, float], limit: Limit, to: Capabilities, lose: Lose) -> dict[int, float]:
    """Clamp the bias of every token; the first that is out of range is told for all."""
    told: list[tuple[str, Action, str]] = []
    clamped = {
        token: _clamped("logit_bias", bias, limit, to, lambda *loss: told.append(loss))
        for token, bias in biases.items()
    }
    for loss in told[:1]:
        lose(*loss)
    return clamped


def _range(limit: Limit) -> str:
    low = "" if limit.low is None else f"{'more than' if limit.low_open else 'at least'} {limit.low:g}"
    high = "" if limit.high is None else f"{'less than' if limit.high_open else 'at most'} {limit.high:g}"
    return " and ".join(text for text in (low, high) if text)
