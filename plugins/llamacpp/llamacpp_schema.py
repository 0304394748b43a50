"""Turn a JSON schema into a GBNF grammar: whatever the grammar lets through is an instance of the schema.

The grammar may be narrower than the schema, never wider: members stand in a fixed order (the required ones first),
properties that the schema does not list are left out unless ``additionalProperties`` asks for them, long strings end
earlier than they must. What would have to be wider is refused by name, with the place in the schema.

``format`` is an annotation by the standard; the formats in ``FORMATS`` are held all the same. ``oneOf`` is taken only
where no value can match two of its branches.

Source: https://json-schema.org/draft/2020-12; GBNF: https://github.com/ggml-org/llama.cpp/tree/master/grammars
"""

import json
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_json import FORMATS, GENERIC
from llamacpp_merge import ANNOTATIONS, disjoint, kinds_of, merged
from llamacpp_regex import literal, pattern_to_gbnf, strings_but
from llamacpp_span import integers, numbers

__all__ = ["Converter", "schema_to_gbnf"]

MAX_SCHEMA = 64 << 10
MAX_GRAMMAR = 256 << 10
MAX_DEPTH = 48
MAX_REPEAT = 1000
"""Repetitions of one item; llama.cpp refuses more than 2,000 rules of one repetition."""

_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
# fmt: off
_UNSUPPORTED = frozenset({
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties",
    "propertyNames", "minProperties", "maxProperties", "contains", "minContains", "maxContains", "multipleOf",
    "unevaluatedProperties", "unevaluatedItems", "additionalItems", "$dynamicRef", "$recursiveRef",
})
# fmt: on
_BY_KEY = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


def schema_to_gbnf(schema: Any, where: str) -> str:
    """Return the grammar of the JSON texts that ``schema`` describes, with the start symbol ``root``.

    Raises:
        InvalidRequest: it is no schema, or a grammar cannot express it; ``where`` names it in the message.
    """
    converter = Converter(where)
    converter.rules["root"] = converter.convert(schema)
    return converter.text()


class Converter:
    """Collects the rules of one grammar, which may hold several schemas."""

    def __init__(self, where: str) -> None:
        self.rules: dict[str, str] = {}
        self.where = where
        self._root: Any = None
        self._references: dict[str, str] = {}

    def convert(self, schema: Any) -> str:
        """Return an expression for one whole schema; its references are looked up in it.

        Raises:
            InvalidRequest: see :func:`schema_to_gbnf`.
        """
        try:
            size = len(json.dumps(schema))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"{self.where}: expected a JSON schema, found {error}") from None
        if size > MAX_SCHEMA:
            raise InvalidRequest(f"{self.where}: expected a schema of at most {MAX_SCHEMA} characters, found {size}")
        self._root, self._references = schema, {}
        return self._expression(schema, "#", 0)

    def text(self) -> str:
        """Return the grammar, with those of the generic rules that it needs.

        Raises:
            InvalidRequest: it is too large.
        """
        text = "\n".join(f"{name} ::= {body}" for name, body in {**self.rules, **GENERIC}.items())
        if len(text) > MAX_GRAMMAR:
            raise InvalidRequest(f"{self.where}: expected a schema whose grammar has at most {MAX_GRAMMAR} characters")
        return text

    def rule(self, body: str) -> str:
        """Add a rule and return its name."""
        name = f"r{len(self.rules)}"
        self.rules[name] = body
        return name

    def _refuse(self, path: str, problem: str) -> InvalidRequest:
        return InvalidRequest(f"{self.where}: {path}: {problem}")

    def _expression(self, schema: Any, path: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise self._refuse(path[:80], f"expected schemas nested at most {MAX_DEPTH} deep, found more")
        if schema is True or schema == {}:
            return "value"
        if schema is False:
            raise self._refuse(path, "nothing is valid against 'false'")
        if not isinstance(schema, dict):
            raise self._refuse(path, f"expected a schema (an object), found {type(schema).__name__}")
        unsupported = sorted(_UNSUPPORTED & schema.keys())
        if unsupported:
            raise self._refuse(path, f"a grammar cannot express '{unsupported[0]}'")
        if "$ref" in schema:
            return self._reference(schema, path, depth)
        for key in ("allOf", "anyOf", "oneOf"):
            if key in schema:
                return self._combined(key, schema, path, depth)
        if "const" in schema or "enum" in schema:
            return self._constants(schema, path)
        types = schema.get("type", [kind for kind, keys in _BY_KEY.items() if any(key in schema for key in keys)])
        types = [types] if isinstance(types, str) else types
        if not isinstance(types, list) or any(kind not in _TYPES for kind in types):
            raise self._refuse(path, f"expected the type to be of {', '.join(_TYPES)}, found {types!r}"[:300])
        if not types:
            return "string" if "format" in schema else "value"
        return _either([self._typed(kind, schema, path, depth) for kind in types])

    def _typed(self, kind: str, schema: dict[str, Any], path: str, depth: int) -> str:
        match kind:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "string":
                return self._string(schema, path)
            case "number" | "integer":
                return self._number(kind, schema, path)
        return kind

    def _reference(self, schema: dict[str, Any], path: str, depth: int) -> str:
        pointer = schema["$ref"]
        rest = {key: value for key, value in schema.items() if key not in {"$ref", "$defs", "definitions"}}
        target = self._resolve(pointer, path)
        if rest.keys() - ANNOTATIONS:
            return self._expression(merged(target, rest, self.where, path), path, depth + 1)
        if pointer not in self._references:
            self._references[pointer] = name = self.rule("")
            self.rules[name] = self._expression(target, pointer, depth + 1)
        return self._references[pointer]

    def _resolve(self, pointer: Any, path: str) -> Any:
        if not isinstance(pointer, str) or (pointer != "#" and not pointer.startswith("#/")):
            raise self._refuse(path, f"expected a $ref into this schema (#/…), found {pointer!r}"[:200])
        found = self._root
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise self._refuse(path, f"$ref leads nowhere: {pointer!r}"[:200])
        return found

    def _combined(self, key: str, schema: dict[str, Any], path: str, depth: int) -> str:
        branches = schema[key]
        rest = {name: value for name, value in schema.items() if name not in {key, "$defs", "definitions"}}
        if not isinstance(branches, list) or not branches:
            raise self._refuse(path, f"expected {key} to be a list of schemas, found {branches!r}"[:200])
        whole = [self._dereferenced(branch, path) for branch in branches]
        if key == "allOf":
            for branch in whole:
                rest = merged(rest, branch, self.where, path)
            return self._expression(rest, path, depth + 1)
        if key == "oneOf" and not disjoint(whole):
            raise self._refuse(path, "a grammar cannot express 'oneOf' of branches that can match the same value")
        rest = {name: value for name, value in rest.items() if name not in ANNOTATIONS}
        parts = [merged(branch, rest, self.where, path) for branch in whole] if rest else branches
        return _either([self._expression(one, f"{path}/{key}/{at}", depth + 1) for at, one in enumerate(parts)])

    def _dereferenced(self, schema: Any, path: str) -> Any:
        for _ in range(MAX_DEPTH):
            if not (isinstance(schema, dict) and schema.keys() == {"$ref"}):
                return schema
            schema = self._resolve(schema["$ref"], path)
        raise self._refuse(path, "expected a $ref to lead to a schema, found a circle")

    def _constants(self, schema: dict[str, Any], path: str) -> str:
        more = schema.keys() - ANNOTATIONS - {"const", "enum", "type", "$defs", "definitions"}
        if more or {"const", "enum"} <= schema.keys():
            raise self._refuse(path, f"a grammar cannot express enum or const together with {min(more or ['enum'])!r}")
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list) or not values:
            raise self._refuse(path, f"expected enum to be a list of values, found {values!r}"[:200])
        kinds = schema.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        fitting = [value for value in values if kinds is None or kinds_of(value) & set(kinds)]
        if not fitting:
            raise self._refuse(path, f"no value of enum has the type {schema.get('type')!r}"[:200])
        return _either([literal(json.dumps(value, ensure_ascii=False)) for value in fitting])

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise self._refuse(path, "expected properties to be an object and required to be a list")
        properties = {**properties, **{name: True for name in required if name not in properties}}
        more = schema.get("additionalProperties", not properties)
        members: dict[str, str] = {}
        for name, value in properties.items():
            inner = self._expression(value, f"{path}/properties/{name}", depth + 1)
            members[name] = self.rule(f'{literal(json.dumps(name, ensure_ascii=False))} space ":" space {inner} space')
        needed = [members[name] for name in dict.fromkeys(required)]
        optional = [member for name, member in members.items() if name not in required]
        tail, optional_first = "", list[str]()
        if more is not False:
            value = self._expression(more, f"{path}/additionalProperties", depth + 1)
            key = self.rule(strings_but(properties)) if properties else "string"
            extra = self.rule(f'{key} space ":" space {value} space')
            tail = self.rule(f'("," space {extra})*')
            optional_first.append(f"{extra} {tail}")
        for member in reversed(optional):
            optional_first.insert(0, f"{member} {tail}".strip())
            tail = self.rule(f'("," space {member})? {tail}'.strip())
        if needed:
            inside = ' "," space '.join(needed) + f" {tail}"
        else:
            inside = f"({' | '.join(optional_first)})?" if optional_first else ""
        return self.rule(f'"{{" space {inside} "}}"')

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> str:
        if schema.get("uniqueItems"):
            raise self._refuse(path, "a grammar cannot express 'uniqueItems'")
        first, items = schema.get("prefixItems", []), schema.get("items", True)
        least, most = self._bounds(schema, "minItems", "maxItems", path)
        if isinstance(items, list):  # the older drafts' way to write prefixItems
            first, items = items, True
        heads = [self._expression(item, f"{path}/prefixItems/{at}", depth + 1) for at, item in enumerate(first)]
        heads = heads[: most if most is not None else len(heads)]
        if items is False:
            if least > len(heads):
                raise self._refuse(path, f"expected at least {least} items, but only {len(heads)} are allowed")
            most = len(heads)
        if most is not None and most == len(heads):
            inside = ' "," space '.join(f"{head} space" for head in heads)
            return self.rule(f'"[" space {inside} "]"')
        item = self._expression(items, f"{path}/items", depth + 1)
        low = max(least - len(heads), 0)
        high = "" if most is None else str(most - len(heads))
        more = f'("," space {item} space){{{low},{high}}}'
        if heads:
            inside = ' "," space '.join(f"{head} space" for head in heads) + f" {more}"
        elif low:
            inside = f'{item} space ("," space {item} space){{{low - 1},{"" if most is None else most - 1}}}'
        else:
            inside = f'({item} space ("," space {item} space){{0,{"" if most is None else most - 1}}})?'
        return self.rule(f'"[" space {inside} "]"')

    def _string(self, schema: dict[str, Any], path: str) -> str:
        least, most = self._bounds(schema, "minLength", "maxLength", path)
        bounded = "minLength" in schema or "maxLength" in schema
        if "pattern" in schema:
            if bounded:
                raise self._refuse(path, "a grammar cannot express 'pattern' together with a length")
            try:
                return self.rule(pattern_to_gbnf(schema["pattern"]))
            except InvalidRequest as error:
                raise self._refuse(path, error.message) from None
        if schema.get("format") in FORMATS and not bounded:
            return self.rule(rf'"\"" {FORMATS[schema["format"]]} "\""')
        if not bounded:
            return "string"
        return self.rule(rf'"\"" char{{{least},{"" if most is None else most}}} "\""')

    def _number(self, kind: str, schema: dict[str, Any], path: str) -> str:
        keys = _BY_KEY["number"]
        limits = [schema.get(key) for key in keys]
        if all(limit is None for limit in limits):
            return kind
        try:
            return self.rule(integers(*limits) if kind == "integer" else numbers(*limits))
        except InvalidRequest as error:
            raise self._refuse(path, error.message) from None

    def _bounds(self, schema: dict[str, Any], low: str, high: str, path: str) -> tuple[int, int | None]:
        least, most = schema.get(low, 0), schema.get(high)
        for key, value in ((low, least), (high, 0 if most is None else most)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise self._refuse(path, f"expected {key} to be a whole number from 0, found {value!r}"[:200])
        if least > MAX_REPEAT:
            raise self._refuse(path, f"expected {low} of at most {MAX_REPEAT}, found {least}")
        if most is not None and most < least:
            raise self._refuse(path, f"expected {high} of at least {low}, found {most} and {least}")
        return least, None if most is None else min(most, MAX_REPEAT)


def _either(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({' | '.join(dict.fromkeys(parts))})"
