"""Pages of a list of models: as many as a client asks for, behind or before the one that it names."""

from collections.abc import Sequence
from typing import NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = ["Page", "page_of"]

MOST = 1000
"""Models of one page, and of one that is not bounded by the client."""


class Page(NamedTuple):
    """Some models of a list, and whether there are more in the direction in which the client reads."""

    models: Sequence[ModelSpecification]
    more: bool


def page_of(
    models: Sequence[ModelSpecification], query: dict[str, str], *, size: str, after: str, before: str = ""
) -> Page:
    """Return the page that ``query`` asks for; ``size``, ``after`` and ``before`` are what its fields are called.

    Raises:
        InvalidRequest: the size is none, or there is no model of that name.
    """
    asked = query.get(size) or str(MOST)
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:9]) <= MOST):
        raise InvalidRequest(f"{size}: expected 1 to {MOST}, found {asked[:20]!r}")
    count = int(asked)
    if name := query.get(before):
        end = _place(models, before, name)
        return Page(models[max(0, end - count) : end], end > count)
    begin = _place(models, after, name) + 1 if (name := query.get(after)) else 0
    return Page(models[begin : begin + count], len(models) > begin + count)


def _place(models: Sequence[ModelSpecification], field: str, name: str) -> int:
    for place, model in enumerate(models):
        if model.id == name:
            return place
    raise InvalidRequest(f"{field}: expected the id of one of the models, found {name[:80]!r}")
