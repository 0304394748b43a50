"""What an operation of the management API is: one table makes both its routes and its OpenAPI document."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from byenatos_sdk.formats.openai_chat.errors import STATUSES
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import ByenatosError, NotFound, error_codes
from byenatos_sdk.protocol.messages import Value
from http_front.exchange import Request, Response, Stream
from http_front.routes import Access

__all__ = ["ROOT", "ErrorBody", "Errors", "Operation", "document", "get", "one_called", "post"]

ROOT = "/byenatos/v1"
SSE = "text/event-stream"
_Struct = TypeVar("_Struct")
_STATUSES = {
    400: "The request is not as it must be.",
    401: "No key that is known.",
    403: "The key's role is not admin, or the request came from a strange page.",
    404: "There is nothing of that name.",
    503: "The kernel or the model cannot do it now.",
    504: "It did not come to pass in time.",
}
_WITHOUT_BODY = (401, 403, 503)
"""What any operation that needs a key may answer."""


class ErrorDetail(Value, frozen=True, omit_defaults=True):
    """What went wrong: a stable code, a sentence, and after how many seconds it is worth trying again."""

    code: str
    message: str
    retry_after_s: float | None = None


class ErrorBody(Value, frozen=True):
    """Every error of this API."""

    error: ErrorDetail


class Errors:
    """How this API says errors: by its own codes, which are stable."""

    def encode_error(self, error: ByenatosError) -> WireResponse:
        """Write an error."""
        body = ErrorBody(ErrorDetail(error.code, error.message, error.retry_after_s))
        headers = {"content-type": "application/json"}
        if error.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        return WireResponse(json_body(body), STATUSES[error.code], headers)


class Operation(NamedTuple):
    """One method at one path.

    ``takes`` is the type of the body, ``gives`` that of the answer, ``tells`` that of the events where the answer can
    be a stream of them: always, if nothing else is given, else when a client accepts ``text/event-stream``.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Request], Awaitable[Response | Stream]]
    takes: Any = None
    gives: Any = None
    tells: Any = None
    access: Access = "admin"
    may_fail: tuple[int, ...] = ()


def get(
    path: str, name: str, summary: str, handler: Any, gives: Any = None, *, tells: Any = None,
    may_fail: tuple[int, ...] = (),
) -> Operation:  # fmt: skip
    """Return an operation that looks at something."""
    return Operation("GET", ROOT + path, name, summary, handler, None, gives, tells, may_fail=may_fail)


def post(
    path: str, name: str, summary: str, handler: Any, takes: Any, gives: Any = None, *, tells: Any = None,
    may_fail: tuple[int, ...] = (),
) -> Operation:  # fmt: skip
    """Return an operation that does something; without a body if it ``takes`` nothing."""
    return Operation("POST", ROOT + path, name, summary, handler, takes, gives, tells, may_fail=may_fail)


def one_called(name: str, found: Sequence[_Struct], field: str, what: str) -> _Struct:
    """Return the one whose ``field`` is ``name``.

    Raises:
        NotFound: there is none.
    """
    for one in found:
        if getattr(one, field) == name:
            return one
    names = ", ".join(str(getattr(one, field)) for one in found) or "none"
    raise NotFound(f"{what} {name[:80]!r}: expected one of those that there are, which are {names}")


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of ``operations``."""
    types = [one for operation in operations for one in (operation.takes, operation.gives, operation.tells)]
    schemas, components = msgspec.json.schema_components(
        [*(one for one in types if one is not None), ErrorBody], ref_template="#/components/schemas/{name}"
    )
    components["ErrorDetail"]["properties"]["code"]["enum"] = list(error_codes())
    found = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        used = (operation.takes, operation.gives, operation.tells)
        takes, gives, tells = (next(found) if one is not None else None for one in used)
        path = operation.path.replace("...}", "}")
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation, takes, gives, tells)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ByenatOS LLM kernel: management",
            "version": version,
            "description": "Models, slots, swaps, sessions, plugins and events of a running kernel.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _described(operation: Operation, takes: Any, gives: Any, tells: Any) -> dict[str, Any]:
    content = {}
    if gives is not None:
        content["application/json"] = {"schema": gives}
    if tells is not None:
        content[SSE] = {"schema": {"type": "string"}, "x-event-data": tells}
    done: dict[str, Any] = {
        "description": "Done." if operation.method != "GET" else "What there is.",
        "content": content,
    }
    responses = {"200": done}
    failures = set(operation.may_fail)
    if operation.access != "open":
        failures.update(_WITHOUT_BODY)
    if takes is not None:
        failures.add(400)
    for status in sorted(failures):
        schema = {"$ref": "#/components/schemas/ErrorBody"}
        responses[str(status)] = {
            "description": _STATUSES[status],
            "content": {"application/json": {"schema": schema}},
        }
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": responses,
        "security": [] if operation.access == "open" else [{"bearer": []}, {"header": []}, {}],
    }
    if takes is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": takes}}}
    names = [part.strip("{}").removesuffix("...") for part in operation.path.split("/") if part.startswith("{")]
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    return described
