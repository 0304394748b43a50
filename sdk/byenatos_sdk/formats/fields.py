"""Read a client's JSON field by field: ``null`` is absence, and whatever is of the wrong type is named in the error."""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["Fields"]

_LARGEST = 2**63


class Fields:
    """One JSON object of a request. ``path`` says where it stands, for errors: ``messages[0]``.

    Every getter returns ``None`` for a field that is absent or ``null``, and raises ``InvalidRequest``, naming the
    field, for a value of another type.
    """

    __slots__ = ("path", "values")

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self.values = values
        self.path = path

    def name(self, key: str) -> str:
        """Return where ``key`` stands in the request."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, expected: str) -> InvalidRequest:
        """Build the error for ``key``."""
        found = self.values.get(key)
        shown = "none" if found is None else f"{type(found).__name__} {found!r}"
        return InvalidRequest(f"{self.name(key)}: expected {expected}, found {shown[:120]}")

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str) -> Any:
        """Return any value."""
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """Return a string."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def need_text(self, key: str) -> str:
        """Return a string that must be there."""
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def number(self, key: str) -> float | None:
        """Return a number; truth values are none."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= _LARGEST:
            raise self.wrong(key, "a number")
        return value

    def whole(self, key: str) -> int | None:
        """Return a whole number of at most 63 bits; ``5.0`` is one."""
        value = self.number(key)
        if value is None:
            return None
        if value != int(value):
            raise self.wrong(key, "a whole number")
        return int(value)

    def flag(self, key: str) -> bool | None:
        """Return a truth value."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def mapping(self, key: str) -> dict[str, Any] | None:
        """Return an object as it is."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return value

    def inner(self, key: str) -> "Fields | None":
        """Return an object, to be read field by field."""
        value = self.mapping(key)
        return None if value is None else Fields(value, self.name(key))

    def need_inner(self, key: str) -> "Fields":
        """Return an object that must be there, to be read field by field."""
        found = self.inner(key)
        if found is None:
            raise self.wrong(key, "an object")
        return found

    def items(self, key: str) -> list[Any]:
        """Return a list; an absent one is empty."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def objects(self, key: str) -> list["Fields"]:
        """Return a list of objects, each to be read field by field; an absent one is empty."""
        found: list[Fields] = []
        for at, value in enumerate(self.items(key)):
            where = f"{self.name(key)}[{at}]"
            if not isinstance(value, dict):
                raise InvalidRequest(f"{where}: expected an object, found {type(value).__name__}")
            found.append(Fields(value, where))
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Return strings; one string alone counts as a list of one."""
        value = self.values.get(key)
        if isinstance(value, str):
            return (value,)
        found = self.items(key)
        if not all(isinstance(one, str) for one in found):
            raise self.wrong(key, "a string or a list of strings")
        return tuple(found)
