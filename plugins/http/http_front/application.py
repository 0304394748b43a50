"""The application: admit a request, find its route, answer it, and say what went wrong in the words of its API."""

import sys
import traceback

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound
from http_front.answering import new_id
from http_front.exchange import Request, Response, Stream, of_wire
from http_front.guard import Guard
from http_front.routes import ErrorFormat, Routes

__all__ = ["Application"]


_CHALLENGE = {"www-authenticate": "Bearer"}
"""What belongs to a refusal for want of a key; some HTTP clients take an answer without it for a broken one."""


class Application:
    """Answers whole requests. Whatever a handler raises becomes an error of the API that was asked."""

    def __init__(self, routes: Routes, guard: Guard, kernel: AsyncClient) -> None:
        self._routes = routes
        self._guard = guard
        self._kernel = kernel
        self._formats = CompatibilityLayer()

    async def __call__(self, request: Request) -> Response | Stream:
        """Answer ``request``, under an id of its own; errors never carry more than a sentence for the client."""
        request.id = new_id("req_")
        route = self._routes.find(request)
        spoken = (route and route.format) or self._spoken(request)
        try:
            if route is not None:
                request.route = route.path
            request.client = self._guard.admit(request, route.access if route is not None else "user")
            if request.client.per_minute:  # all workers together
                await self._kernel.admit(request.client.name)
            if route is None:
                return self._nowhere(request, spoken)
            return await route.handler(request)
        except ByenatosError as error:
            refused = of_wire(spoken.encode_error(error))
            return refused._replace(headers={**refused.headers, **_CHALLENGE}) if refused.status == 401 else refused
        except Exception:  # noqa: BLE001 - a mistake of ours must not end the worker
            traceback.print_exc(file=sys.stderr)
            return of_wire(spoken.encode_error(ByenatosError("something failed inside; the server's log says what")))

    def _spoken(self, request: Request) -> ErrorFormat:
        """Return in which words a request is refused whose path is several vendors', or whose method is not known."""
        other = next(iter(self._routes.methods(request).values()), None)
        claimed = self._routes.spoken_at(request.path) if other is None else other.format
        return claimed or self._formats.format(self._formats.asker(request.wire))

    def _nowhere(self, request: Request, spoken: ErrorFormat) -> Response:
        allowed = self._routes.methods(request)
        if allowed:
            names = ", ".join(sorted(allowed))
            error = InvalidRequest(f"{request.path}: expected {names}, found {request.method}")
            response = of_wire(spoken.encode_error(error))
            return response._replace(status=405, headers={**response.headers, "allow": names})
        return of_wire(spoken.encode_error(NotFound(f"{request.method} {request.path}: there is nothing here")))
