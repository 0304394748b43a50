"""Forms of an answer that have no canonical field and reach the driver in ``extra``, as grammars.

An answer may be held by a grammar in GBNF (llama.cpp's ``grammar``), by a regular expression that it matches as a whole
(``grammar`` of Hugging Face's server, ``structured_outputs`` of vLLM), or to one of several texts (vLLM's ``choice``,
Gemini's ``text/x.enum``).
"""

from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest
from llamacpp_regex import literal, regex_to_gbnf

__all__ = ["Form", "own_form"]

MAX_CHOICES = 1000
MAX_CHOICE = 1000


class Form(NamedTuple):
    """A grammar that holds the whole answer, and the field that asked for it."""

    where: str
    grammar: str


def own_form(request: InferenceRequest) -> Form | None:
    """Return the form that ``extra`` asks for, if it does.

    Raises:
        InvalidRequest: it is none, or there are several; naming the field, what was expected and what was found.
    """
    found = [form for read in (_grammar, _structured, _enumerated) if (form := read(request.extra)) is not None]
    if len(found) > 1:
        raise InvalidRequest(f"{found[0].where} and {found[1].where}: expected one of them, found both")
    return found[0] if found else None


def _grammar(extra: dict[str, Any]) -> Form | None:
    given, where = extra.get("grammar"), "extra.grammar"
    if given is None:
        return None
    if isinstance(given, dict) and given.get("type") == "regex":
        return _regex(f"{where}.value", given.get("value"))
    return _text(where, given)


def _structured(extra: dict[str, Any]) -> Form | None:
    given, where = extra.get("structured_outputs"), "extra.structured_outputs"
    if given is None:
        return None
    asked = {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else {}
    match asked:
        case {"regex": pattern, **rest} if not rest:
            return _regex(f"{where}.regex", pattern)
        case {"choice": choices, **rest} if not rest:
            return _choice(f"{where}.choice", choices)
        case {"grammar": grammar, **rest} if not rest:
            return _text(f"{where}.grammar", grammar)
    expected = "an object with one of regex, choice and grammar (JSON goes by json and json_object)"
    raise InvalidRequest(f"{where}: expected {expected}, found {given!r}"[:300])


def _enumerated(extra: dict[str, Any]) -> Form | None:
    config = extra.get("generationConfig")
    if not isinstance(config, dict) or config.get("responseMimeType") != "text/x.enum":
        return None
    name = "responseSchema" if config.get("responseSchema") is not None else "responseJsonSchema"
    schema = config.get(name)
    return _choice(f"generationConfig.{name}.enum", schema.get("enum") if isinstance(schema, dict) else None)


def _text(where: str, given: Any) -> Form:
    if not isinstance(given, str) or not given.strip():
        raise InvalidRequest(f"{where}: expected a GBNF grammar as text, found {given!r}"[:200])
    return Form(where, given)


def _regex(where: str, pattern: Any) -> Form:
    try:
        return Form(where, f"root ::= {regex_to_gbnf(pattern)}")
    except InvalidRequest as refusal:
        raise InvalidRequest(f"{where}: {refusal}") from None


def _choice(where: str, choices: Any) -> Form:
    if not isinstance(choices, list) or not 0 < len(choices) <= MAX_CHOICES:
        raise InvalidRequest(f"{where}: expected a list of 1 to {MAX_CHOICES} texts, found {choices!r}"[:200])
    for choice in choices:
        if not isinstance(choice, str) or not 0 < len(choice) <= MAX_CHOICE:
            raise InvalidRequest(f"{where}: expected texts of 1 to {MAX_CHOICE} characters, found {choice!r}"[:200])
    return Form(where, "root ::= " + " | ".join(map(literal, choices)))
