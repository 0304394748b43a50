"""What a measurement yields: tables to look at, and figures that are held against a target."""

from msgspec import Struct

__all__ = ["Figure", "Section", "Table", "best_of", "microseconds", "percentile"]


class Figure(Struct, frozen=True):
    """One measured value with its target: an upper bound if ``at_most``, else a lower one."""

    name: str
    value: float
    unit: str
    target: float
    at_most: bool = True

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.target if self.at_most else self.value >= self.target

    def line(self) -> str:
        """Say it in one line."""
        sign = "≤" if self.at_most else "≥"
        verdict = "ok" if self.met else "MISSED"
        return (
            f"{self.name:<58} target {sign} {_shown(self.target):>9} {self.unit:<6} "
            f"measured {_shown(self.value):>9} {self.unit:<6} {verdict}"
        )


class Table(Struct, frozen=True):
    """Rows under a title; every cell is text or a number."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str | float, ...]]

    def lines(self) -> list[str]:
        """Lay the table out in columns."""
        cells = [self.columns, *(tuple(_shown(cell) for cell in row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        texts = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return [self.title, *(f"  {text}" for text in texts)]


class Section(Struct, frozen=True):
    """The outcome of one measurement."""

    tables: list[Table]
    figures: list[Figure]


def best_of(first: list[Figure], second: list[Figure]) -> list[Figure]:
    """Keep the better value of each figure: noise of the machine only ever makes a figure worse."""
    again = {figure.name: figure for figure in second}
    return [
        min((figure, again[figure.name]), key=lambda one: one.value if one.at_most else -one.value) for figure in first
    ]


def percentile(values: list[int], percent: float) -> float:
    """Return the value below which ``percent`` of a hundred lie."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))])


def microseconds(nanoseconds: float) -> float:
    """Convert."""
    return nanoseconds / 1000


def _shown(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"
