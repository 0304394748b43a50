"""Names in clients' requests: camelCase and snake_case mean the same, and clients mix them within one request.

Words of a list may come as their numbers in it: the vendor's clients before ``google-genai`` write them so.
Also where a request goes: the model and the verb stand in its path.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.wire import read_object
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["Target", "model_path", "read_fields", "target_of", "word_of"]

_FREE = frozenset(
    {
        "args",
        "labels",
        "parameters",
        "parametersJsonSchema",
        "response",
        "responseJsonSchema",
        "responseSchema",
    }
)
"""Fields whose value is the client's own: its names are not ours to change."""
_WORDS = {
    "mode": ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"),
    "taskType": (
        "TASK_TYPE_UNSPECIFIED",
        "RETRIEVAL_QUERY",
        "RETRIEVAL_DOCUMENT",
        "SEMANTIC_SIMILARITY",
        "CLASSIFICATION",
        "CLUSTERING",
        "QUESTION_ANSWERING",
        "FACT_VERIFICATION",
        "CODE_RETRIEVAL_QUERY",
    ),
    "type": ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"),
}
"""The words of a field in the order of their numbers: ``google.ai.generativelanguage_v1beta``."""
_SNAKE = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_COLLECTION = re.compile(r"/(models|tunedModels)/")


def read_fields(body: bytes) -> Fields:
    """Decode a client's JSON object, with every name of the API's own in camelCase.

    Raises:
        InvalidRequest: ``body`` is not a JSON object, or nested too deeply.
        RequestTooLarge: it is larger than ``wire.MAX_BODY``.
    """
    values = read_object(body)
    try:
        return Fields({_camel(name): _named(_camel(name), value) for name, value in values.items()})
    except RecursionError:
        raise InvalidRequest("body: expected JSON that is nested less deeply") from None


def _camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name) if "_" in name else name


def word_of(name: str, value: Any) -> Any:
    """Return the word that a number stands for in the field ``name``; anything else as it is."""
    words = _WORDS.get(name, ())
    return words[value] if type(value) is int and 0 <= value < len(words) else value


def _named(name: str, value: Any) -> Any:
    """Return the value of the field ``name``, with names in camelCase."""
    if name in _FREE:
        return value
    if type(value) is int:
        return word_of(name, value)
    if isinstance(value, list):
        return [_named("", one) for one in value]
    if isinstance(value, dict):
        return {_camel(key): _named(_camel(key), inner) for key, inner in value.items()}
    return value


class Target(NamedTuple):
    """What a request's path says."""

    model: str
    verb: str
    query: Mapping[str, list[str]]


def target_of(path: str) -> Target:
    """Return the model and the verb of a path such as ``/v1beta/models/gemini-x:generateContent?alt=sse``.

    A model's name may hold slashes and colons: the verb stands behind the last colon.

    Raises:
        InvalidRequest: there is no model or no verb in it.
    """
    plain, _, query = path.partition("?")
    place, colon, verb = unquote(plain).rpartition(":")
    collection = _COLLECTION.search(place)
    if not colon or collection is None or not place[collection.end() :]:
        raise InvalidRequest(f"path: expected /v1beta/models/MODEL:VERB, found {plain[:200]!r}")
    model = place[collection.end() :]
    return Target(model if collection[1] == "models" else f"tunedModels/{model}", verb, parse_qs(query))


def model_path(model: str) -> str:
    """Return a model's resource name, quoted for a path."""
    name = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    return quote(name, safe="/")
