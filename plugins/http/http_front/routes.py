"""Which handler answers which request: exact paths in a table, the others by patterns, and what is wrong with the rest.

Patterns are paths with names in braces: ``{name}`` takes one segment, ``{name...}`` the rest, slashes included (models
are called ``org/name``).
"""

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from byenatos_sdk.formats.contract import Format
from http_front.exchange import Request, Response, Stream

__all__ = ["Handler", "Route", "Routes"]

Handler = Callable[[Request], Awaitable[Response | Stream]]


class Route(NamedTuple):
    """A handler, and the format in which its errors are said."""

    handler: Handler
    format: Format


class Routes:
    """The table."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        self._by_pattern: dict[str, dict[str, Route]] = {}

    def add(self, method: str, path: str, handler: Handler, format: Format) -> None:
        """Answer ``method`` at ``path``, which may be a pattern, with ``handler``."""
        if "{" not in path:
            self._exact.setdefault(path, {})[method] = Route(handler, format)
            return
        if path not in self._by_pattern:
            parts = re.split(r"\{(\w+)(\.\.\.)?\}", path)
            text = "".join(
                re.escape(part) if at % 3 == 0 else f"(?P<{part}>{'.+' if parts[at + 1] else '[^/]+'})"
                for at, part in enumerate(parts)
                if at % 3 != 2
            )
            self._by_pattern[path] = {}
            self._patterns.append((re.compile(text), self._by_pattern[path]))
        self._by_pattern[path][method] = Route(handler, format)

    def find(self, request: Request) -> Route | None:
        """Return the route of a request, and fill its ``parameters``; ``None`` if there is none.

        Of the patterns that a path fits, the first one that has the method counts.
        """
        method = "GET" if request.method == "HEAD" else request.method
        exact = self._exact.get(request.path)
        if exact is not None:
            return exact.get(method)
        for pattern, methods in self._patterns:
            if method in methods and (found := pattern.fullmatch(request.path)):
                request.parameters = found.groupdict()
                return methods[method]
        return None

    def methods(self, request: Request) -> set[str]:
        """Return the methods for which there is something at a request's path."""
        exact = self._exact.get(request.path)
        if exact is not None:
            return set(exact)
        found = [methods for pattern, methods in self._patterns if pattern.fullmatch(request.path)]
        return {method for methods in found for method in methods}
