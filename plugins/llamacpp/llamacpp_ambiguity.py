"""How much a grammar leaves open at once, found before llama.cpp tries it.

llama.cpp follows all readings of a text side by side. Where parts may be empty one after the other they multiply with
every level, up to more than any machine can hold, in the thread that computes all answers. So two numbers are bounded,
for each place in each rule: its *ways*, the paths from there to something that must come next, and its *cost*, the
paths on from there after one character, which is what llama.cpp has to look at. That readings also multiply with every
character of a text, where rules contain themselves in several ways, does not show here; see ``llamacpp_sampling``.

Both follow from those of a rule's parts. Of a sequence counts the first part, and the next one if all before it may be
empty. A part that repeats is what llama.cpp makes of it, one behind the other. What a rule reaches at its start is no
circle, or llama.cpp refuses it as left recursion; here a circle counts nothing.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["ENDLESS", "MAX_COST", "MAX_WAYS", "Alternatives", "Item", "check_ambiguity"]

ENDLESS = 2001  # llama.cpp takes up to 2,000 repetitions
MAX_WAYS = 10_000
MAX_COST = 50_000
_BEYOND = 1 << 40


class Item(NamedTuple):
    """A part of a sequence: a rule by its name, a group, or (``None``) a character or more; and how often it comes."""

    what: "str | list[list[Item]] | None"
    least: int = 1
    most: int = 1


Alternatives: TypeAlias = list[list[Item]]


class _Reach(NamedTuple):
    """What something reaches at its start. ``open_ends``: paths after whose character it may be over."""

    ways: int
    cost: int
    open_ends: int


_NOTHING = _Reach(0, 0, 0)
_CHARACTER = _Reach(1, 0, 1)


def check_ambiguity(rules: Mapping[str, Alternatives], where: str) -> None:
    """Refuse a grammar that leaves too much open at once.

    Raises:
        InvalidRequest: naming the rule.
    """
    counted = _Counted(rules)
    for name in rules:
        ways, cost = counted.most_at(name)
        if ways > MAX_WAYS or cost > MAX_COST:
            raise InvalidRequest(
                f"{where}: rule {name!r}: expected at most {MAX_WAYS} ways on, and {MAX_COST} after a character, "
                f"found {_shown(ways)} and {_shown(cost)}: expected fewer alternatives, and fewer parts in a row that "
                "may all be left out"
            )


def _shown(number: int) -> str:
    return str(number) if number < _BEYOND else "more than can be counted"


class _Counted:
    """What rules reach. Their costs follow from the ways of others, also of those that lead back to them."""

    def __init__(self, rules: Mapping[str, Alternatives]) -> None:
        self._rules = rules
        self._empty = _rules_that_may_be_empty(rules)
        self._found: dict[str, _Reach] = {}
        self._with_ways: dict[str, _Reach] = {}
        self._most: dict[str, tuple[int, int]] = {}
        self._ways = self._cost = 0  # the most so far in the rule that is looked at
        for name in rules:
            self._reach(name)
        self._with_ways, self._found = self._found, {}

    def most_at(self, name: str) -> tuple[int, int]:
        """Return the most ways and the highest cost of a place in a rule."""
        self._reach(name)
        return self._most[name]

    def _reach(self, name: str) -> None:
        """Find what a rule reaches, after the rules at its start: chains of them may be long, so without recursion."""
        waiting = [name]
        begun: set[str] = set()
        while waiting:
            rule = waiting[-1]
            if rule not in self._found and rule not in begun:
                begun.add(rule)
                waiting += [one for one in self._first(self._rules[rule]) if one not in self._found]
                continue
            waiting.pop()
            if rule not in self._found:
                self._ways = self._cost = 0
                self._found[rule] = self._of(self._rules[rule])
                self._most[rule] = self._ways, self._cost

    def _first(self, alternatives: Alternatives) -> Iterator[str]:
        """Yield the rules that something may begin with."""
        for sequence in alternatives:
            for item in sequence:
                if isinstance(item.what, str):
                    yield item.what
                elif item.what is not None:
                    yield from self._first(item.what)
                if item.least and not _may_be_empty(item.what, self._empty):
                    break

    def _of(self, alternatives: Alternatives) -> _Reach:
        sums = [sum(numbers) for numbers in zip(*map(self._of_sequence, alternatives), strict=True)]
        return self._noted(_Reach(*(min(number, _BEYOND) for number in sums)))

    def _of_sequence(self, sequence: list[Item]) -> _Reach:
        rest, over = _NOTHING, True
        for item in reversed(sequence):
            rest, over = self._before(item, rest, over=over)
            self._noted(rest)
        return rest

    def _noted(self, reach: _Reach) -> _Reach:
        self._ways, self._cost = max(self._ways, reach.ways), max(self._cost, reach.cost)
        return reach

    def _before(self, item: Item, rest: _Reach, *, over: bool) -> tuple[_Reach, bool]:
        """Return what ``item`` and what comes after it (``rest``; ``over``: it may be empty) reach together."""
        one = self._once(item.what)
        skipped = _may_be_empty(item.what, self._empty)
        after = rest
        optional = item.most - item.least
        # What never ends comes back to itself, which llama.cpp notices.
        for _ in range(optional if skipped and item.most < ENDLESS else min(optional, 2)):
            passed = after if skipped else rest
            after = _joined(one, after, passed, over=over)
        for _ in range(item.least if skipped else min(item.least, 2)):
            after = _joined(one, after, after if skipped else _NOTHING, over=over)
            over = over and skipped
        return after, over

    def _once(self, what: "str | Alternatives | None") -> _Reach:
        if what is None:
            return _CHARACTER
        if isinstance(what, str):
            return self._found.get(what) or self._with_ways.get(what, _NOTHING)
        return self._of(what)


def _joined(one: _Reach, after: _Reach, passed: _Reach, *, over: bool) -> _Reach:
    """Return what ``one`` reaches before ``after``; ``passed``: what is reached where ``one`` is left out."""
    return _Reach(
        min(one.ways + passed.ways, _BEYOND),
        min(one.cost + one.open_ends * after.ways + passed.cost, _BEYOND),
        min((one.open_ends if over else 0) + passed.open_ends, _BEYOND),
    )


def _rules_that_may_be_empty(rules: Mapping[str, Alternatives]) -> set[str]:
    users: dict[str, set[str]] = {}
    for name, alternatives in rules.items():
        for used in _named(alternatives):
            users.setdefault(used, set()).add(name)
    empty: set[str] = set()
    waiting = list(rules)
    while waiting:
        name = waiting.pop()
        if name not in empty and _may_be_empty(rules[name], empty):
            empty.add(name)
            waiting += users.get(name, ())
    return empty


def _may_be_empty(what: "str | Alternatives | None", empty: set[str]) -> bool:
    if what is None or isinstance(what, str):
        return what in empty
    return any(all(item.least == 0 or _may_be_empty(item.what, empty) for item in sequence) for sequence in what)


def _named(alternatives: Alternatives) -> Iterator[str]:
    for sequence in alternatives:
        for item in sequence:
            if isinstance(item.what, str):
                yield item.what
            elif item.what is not None:
                yield from _named(item.what)
