"""Which handler answers which request: exact paths in a table, the others by patterns, and what is wrong with the rest.

Patterns are paths with names in braces: ``{name}`` takes one segment, ``{name...}`` the rest, slashes included (models
are called ``org/name``).
"""

import re
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias

from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.protocol.errors import ByenatosError
from http_front.exchange import Request, Response, Stream

__all__ = ["Access", "ErrorFormat", "Handler", "Route", "Routes"]

Access: TypeAlias = Literal["open", "user", "admin"]
"""Who may come: anybody, whoever has a key (where there are keys), or an admin."""

Handler = Callable[[Request], Awaitable[Response | Stream]]


_JOINED = re.compile(r"\A/*((?:/openai)?/v1(?:beta)?|/api)/{2,}")


class ErrorFormat(Protocol):
    """How an API says an error; formats do."""

    def encode_error(self, error: ByenatosError) -> WireResponse:
        """Write an error."""


class Route(NamedTuple):
    """A handler, the format in which its errors are said, who may come, and the path as it was entered.

    Without a format errors are said in that of whoever asks, for several vendors have the path in common.
    """

    handler: Handler
    format: ErrorFormat | None
    access: Access
    path: str


class Routes:
    """The table."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        self._by_pattern: dict[str, dict[str, Route]] = {}
        self._claimed: dict[str, ErrorFormat] = {}

    def add(
        self, method: str, path: str, handler: Handler, format: ErrorFormat | None, access: Access = "user"
    ) -> None:
        """Answer ``method`` at ``path``, which may be a pattern, with ``handler``."""
        route = Route(handler, format, access, path)
        if "{" not in path:
            self._exact.setdefault(path, {})[method] = route
            return
        if path not in self._by_pattern:
            parts = re.split(r"\{(\w+)(\.\.\.)?\}", path)
            text = "".join(
                re.escape(part) if at % 3 == 0 else f"(?P<{part}>{'.+' if parts[at + 1] else '[^/]+'})"
                for at, part in enumerate(parts)
                if at % 3 != 2
            )
            self._by_pattern[path] = {}
            self._patterns.append((re.compile(text, re.DOTALL), self._by_pattern[path]))
        self._by_pattern[path][method] = route

    def claim(self, prefix: str, format: ErrorFormat) -> None:
        """Say in ``format`` that there is nothing at a path that begins with ``prefix``."""
        self._claimed[prefix] = format

    def spoken_at(self, path: str) -> ErrorFormat | None:
        """Return the format that claimed a path where there is nothing."""
        return next((claim for prefix, claim in self._claimed.items() if path.startswith(prefix)), None)

    def find(self, request: Request) -> Route | None:
        """Return the route of a request, and fill its ``parameters``; ``None`` if there is none.

        Of the patterns that a path fits, the first one that has the method counts. A path where nothing is has one
        slash too many, at its end or where a client put its base URL and a path together, if there is something
        without it.
        """
        found = self._found(request)
        if found is None and (path := _tidied(request.path)) != request.path:
            untidy = request.path, request.target
            target, mark, query = request.target.partition("?")
            request.path, request.target = path, f"{_tidied(target)}{mark}{query}"
            found = self._found(request)
            if found is None:
                request.path, request.target = untidy
        return found

    def _found(self, request: Request) -> Route | None:
        method = "GET" if request.method == "HEAD" else request.method
        exact = self._exact.get(request.path)
        if exact is not None:
            return exact.get(method)
        for pattern, methods in self._patterns:
            if method in methods and (found := pattern.fullmatch(request.path)):
                request.parameters = found.groupdict()
                return methods[method]
        return None

    def methods(self, request: Request) -> dict[str, Route]:
        """Return what there is at a request's path, by method."""
        exact = self._exact.get(request.path)
        if exact is not None:
            return exact
        found = [methods for pattern, methods in self._patterns if pattern.fullmatch(request.path)]
        return {method: route for methods in reversed(found) for method, route in methods.items()}


def _tidied(path: str) -> str:
    """Return a path without slashes that mean nothing."""
    return _JOINED.sub(r"\1/", path).rstrip("/")
