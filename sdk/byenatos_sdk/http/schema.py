"""JSON that was asked for in words: is the answer what it should be, and if not, what is the model to be told?

Where a vendor's format knows no schemas, an instruction asks for JSON (``formats.adapt``). Here the answer is looked
at: without the fence that models like to put around it, as JSON, under the schema. If it is not valid, the model is
shown what is wrong, once.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from byenatos_sdk.formats.adapt import schema_of
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Usage, assistant, user

__all__ = ["SchemaCheck", "added", "check_of"]

_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
LONGEST_COMPLAINT = 500

_ODDITIES = (ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError, ValueError)
"""What fastjsonschema raises on a schema that is none, beside its own errors."""


class SchemaCheck:
    """Judges answers. ``strict``: an answer that stays wrong is an error."""

    def __init__(self, schema: dict[str, Any] | None, *, strict: bool) -> None:
        self._validate = _validator(schema)
        self.strict = strict

    def judge(self, text: str) -> tuple[str, str]:
        """Return the JSON in ``text``, and what is wrong with it: empty if nothing is."""
        fenced = _FENCE.match(text)
        inner = fenced[1] if fenced else text.strip()
        try:
            value = msgspec.json.decode(inner)
        except (msgspec.DecodeError, RecursionError) as error:
            return text, f"it is not JSON: {error}"[:LONGEST_COMPLAINT]
        return inner, self._validate(value)[:LONGEST_COMPLAINT]

    def repair(self, request: InferenceRequest, text: str, wrong: str) -> InferenceRequest:
        """Return the request that shows the model what was wrong."""
        turn = user(f"That is not what was asked for: {wrong}. Answer again, with the corrected JSON and nothing else.")
        return replace(request, messages=(*request.messages, assistant(text), turn), continued=0)


def check_of(request: InferenceRequest, to: Capabilities) -> SchemaCheck | None:
    """Return the check of an answer to ``request``, ``None`` if the vendor itself sees to its form.

    Raises:
        InvalidRequest: the schema is none.
    """
    form = request.response_format
    kind = None if form is None else form.get("type")
    if kind not in {"json_object", "json_schema"} or kind in to.outputs or "json_schema" in to.outputs:
        return None
    assert form is not None
    inner = form.get("json_schema")
    return SchemaCheck(schema_of(form), strict=isinstance(inner, dict) and inner.get("strict") is True)


def added(first: Usage, second: Usage) -> Usage:
    """Return what both took together."""

    def plus(one: int | None, other: int | None) -> int | None:
        return None if one is None or other is None else one + other

    return Usage(
        plus(first.input_tokens, second.input_tokens),
        plus(first.output_tokens, second.output_tokens),
        first.cached_tokens + second.cached_tokens,
        first.cache_write_tokens + second.cache_write_tokens,
        first.reasoning_tokens + second.reasoning_tokens,
    )


def _validator(schema: dict[str, Any] | None) -> Callable[[Any], str]:
    if schema is None:
        return lambda value: "" if isinstance(value, dict) else "it is no JSON object"
    import fastjsonschema  # here: most requests have no schema to check

    try:
        validate = fastjsonschema.compile(schema, handlers={"http": _nowhere, "https": _nowhere}, use_formats=False)
    except (fastjsonschema.JsonSchemaDefinitionException, re.error, *_ODDITIES) as error:
        raise InvalidRequest(f"response_format: expected a JSON schema, found: {error}") from None

    def judge(value: Any) -> str:
        try:
            validate(value)
        except fastjsonschema.JsonSchemaValueException as error:
            return str(error.message).replace("data", "the answer", 1)
        except _ODDITIES as error:
            return f"it cannot be held against the schema: {error}"
        return ""

    return judge


def _nowhere(address: str) -> None:
    raise InvalidRequest(f"response_format: a schema that refers to {address!r} cannot be followed; put it in")
