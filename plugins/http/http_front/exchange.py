"""One request and its answer, as the handlers see them; the server turns them into HTTP."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from byenatos_sdk.formats.wire import WireRequest, WireResponse
from byenatos_sdk.protocol.errors import InvalidRequest, PermissionDenied
from http_front.clients import EVERYBODY, Client

__all__ = ["JSON", "Request", "Response", "Stream", "json_response", "of_wire"]

JSON = "application/json"
_MOST_FIELDS = 100


class Request:
    """A whole request. Names of ``headers`` are in lower case; ``target`` is the path with its query, as it came."""

    __slots__ = (
        "body",
        "client",
        "headers",
        "id",
        "keep_alive",
        "method",
        "parameters",
        "path",
        "route",
        "target",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        keep_alive: bool = True,
        version: str = "1.1",
    ) -> None:
        self.method = method
        self.target = target
        self.path = unquote(target.partition("?")[0])
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.version = version
        self.client: Client = EVERYBODY
        """Whose it is."""
        self.id = ""
        """What its answer calls it, if anything, for whoever looks for it in a log."""
        self.route = ""
        """The path of the route that answers it, as it was entered; empty if there is none."""
        self.parameters: dict[str, str] = {}
        """What the route's pattern took from the path."""

    def check_model(self, model: str) -> str:
        """Return ``model``, a slot or a model that the request names.

        Raises:
            PermissionDenied: whoever asks may not name it.
        """
        client = self.client
        if not client.may_name(model):
            raise PermissionDenied(f"model: {client.name} may ask {', '.join(client.slots)}, found {model[:80]!r}")
        return model

    @property
    def query(self) -> dict[str, str]:
        """The fields of the query; of one that is given twice, the last.

        Raises:
            InvalidRequest: there are more than anybody needs.
        """
        try:
            return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise InvalidRequest(f"query: expected at most {_MOST_FIELDS} fields, found more") from None

    @property
    def wire(self) -> WireRequest:
        """The request as the formats read it."""
        return WireRequest(self.target, self.body, self.headers, self.method)


class Response(NamedTuple):
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = {}


class Stream(NamedTuple):
    """An answer in pieces. Closing ``pieces`` early is how the handler hears that the client has left.

    Where they have an attribute ``over``, it says whether the piece that they gave was the last one: the end then goes
    with it.

    Once a piece was sent there is no status left to say an error with: a piece that is an exception's is written by the
    handler itself, in the words of its format; an exception that it lets through cuts the connection.
    """

    pieces: AsyncIterator[bytes]
    content_type: str
    headers: Mapping[str, str] = {}


def json_response(value: Any, status: int = 200) -> Response:
    """Return ``value`` as JSON."""
    return Response(msgspec.json.encode(value), status)


def of_wire(wire: WireResponse) -> Response:
    """Return a format's response as ours."""
    headers = wire.headers
    kind = headers.get("content-type")
    if len(headers) == 1 and kind is not None:
        return Response(wire.body, wire.status, kind)
    others = {name: value for name, value in headers.items() if name != "content-type"}
    return Response(wire.body, wire.status, kind or JSON, others)
