"""GBNF expressions for the numbers between two bounds, in decimal notation without exponents."""

from decimal import Decimal
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["integers", "numbers"]

MAX_BOUND = 10**15
_FRACTION = '("." [0-9]{1,15})?'
_ZEROS = '("." "0"{1,3})?'
_NOT_ZERO = '"." [0-9]{0,14} [1-9]'


def integers(minimum: Any, maximum: Any, above: Any, below: Any) -> str:
    """Return an expression for the whole numbers within the bounds (``None``: unbounded).

    Raises:
        InvalidRequest: there are none, or a bound is no number or too large.
    """
    lows = [-int(-limit // 1) for limit in (_limit(minimum),) if limit is not None]
    lows += [int(limit // 1) + 1 for limit in (_limit(above),) if limit is not None]
    highs = [int(limit // 1) for limit in (_limit(maximum),) if limit is not None]
    highs += [-int(-limit // 1) - 1 for limit in (_limit(below),) if limit is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    return _integers(low, high)


def numbers(minimum: Any, maximum: Any, above: Any, below: Any) -> str:
    """Return an expression for the numbers within the bounds (``None``: unbounded), which must be whole.

    Raises:
        InvalidRequest: there are none, or a bound is no whole number or too large.
    """
    lows = [(_whole(minimum), False), (_whole(above), True)]
    highs = [(_whole(maximum), False), (_whole(below), True)]
    low, open_low = max(((value, is_open) for value, is_open in lows if value is not None), default=(None, False))
    high, open_high = min(((value, not is_open) for value, is_open in highs if value is not None), default=(None, True))
    open_high = not open_high
    parts = []
    if high is None or high >= 0:  # what is not negative: from max(low, 0)
        parts += _upward(
            max(low or 0, 0), high, open_low=open_low and (low or 0) >= 0 and low is not None, open_high=open_high
        )
    if low is None or low < 0:  # the negative ones, mirrored
        start = 0 if high is None or high >= 0 else -high
        parts += [
            f'"-" {part}'
            for part in _upward(
                start, None if low is None else -low, open_low=start == 0 or open_high, open_high=open_low
            )
        ]
    if not parts:
        raise InvalidRequest("no number lies between the bounds")
    return "(" + " | ".join(parts) + ")"


def _upward(low: int, high: int | None, *, open_low: bool, open_high: bool) -> list[str]:
    """Return expressions for the numbers from ``low`` (at least 0) to ``high``; an open end itself is left out."""
    if high is not None and (high < low or (high == low and (open_low or open_high))):
        return []
    if high == low:
        return [f'"{low}" {_ZEROS}']
    parts = [f'"{low}" {_NOT_ZERO if open_low else _FRACTION}']
    if high is None or high - 1 > low:
        parts.append(f"{_naturals(low + 1, None if high is None else high - 1)} {_FRACTION}")
    if high is not None and not open_high:
        parts.append(f'"{high}" {_ZEROS}')
    return parts


def _limit(value: Any) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < MAX_BOUND:
        raise InvalidRequest(f"expected a bound to be a number below 10^15, found {value!r}"[:200])
    return Decimal(str(value))


def _whole(value: Any) -> int | None:
    limit = _limit(value)
    if limit is not None and limit != limit // 1:
        raise InvalidRequest(f"a grammar cannot express a bound that is not whole for a number, found {value!r}")
    return None if limit is None else int(limit)


def _integers(low: int | None, high: int | None) -> str:
    if low is not None and high is not None and low > high:
        raise InvalidRequest("no whole number lies between the bounds")
    parts = []
    if high is None or high >= 0:
        parts.append(_naturals(max(low or 0, 0), high))
    if low is None or low < 0:
        start = 1 if high is None or high >= 0 else -high
        parts.append(f'"-" {_naturals(start, None if low is None else -low)}')
    return "(" + " | ".join(parts) + ")"


def _naturals(low: int, high: int | None) -> str:
    """Return an expression for ``low`` to ``high``; of the endless ones, those of at most 15 digits."""
    last = 10**15 - 1 if high is None else high
    parts = []
    start = low
    while start <= last:
        end = min(10 ** len(str(start)) - 1, last)
        parts.append(_same_length(str(start), str(end)))
        start = end + 1
    return "(" + " | ".join(parts) + ")"


def _same_length(low: str, high: str) -> str:
    if not low:
        return ""
    rest = len(low) - 1
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        return f"[{low[0]}-{high[0]}]" + (f" [0-9]{{{rest}}}" if rest else "")
    if low[0] == high[0]:
        return f'"{low[0]}" {_same_length(low[1:], high[1:])}'
    parts = [f'"{low[0]}" {_same_length(low[1:], "9" * rest)}']
    if int(high[0]) - int(low[0]) > 1:
        parts.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}] [0-9]{{{rest}}}")
    parts.append(f'"{high[0]}" {_same_length("0" * rest, high[1:])}')
    return "(" + " | ".join(parts) + ")"
