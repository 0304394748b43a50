"""GBNF rules of JSON, and of what a schema calls a string's format.

Source: RFC 8259; RFC 3339 for dates and times.
"""

__all__ = ["ANY_OBJECT", "FORMATS", "GENERIC"]

GENERIC = {
    "space": r'| " " | "\n"{1,2} [ \t]{0,20}',
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" unit)',
    "unit": "[0-9abcefABCEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}",
    "string": r'"\"" char* "\""',
    "integer": r'"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": r'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "member": r'string space ":" space value',
    "object": r'"{" space (member space ("," space member space)*)? "}"',
    "array": r'"[" space (value space ("," space value space)*)? "]"',
}
"""JSON as such (RFC 8259), with bounded white space: a model that likes it would write nothing else."""

_DATE = r'[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_OFFSET = '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
_TIME = f'([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{{1,6}})? {_OFFSET}'
_BYTE = r'([0-9] | [1-9] [0-9] | "1" [0-9] [0-9] | "2" [0-4] [0-9] | "25" [0-5])'
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
    "ipv4": f'{_BYTE} "." {_BYTE} "." {_BYTE} "." {_BYTE}',
    "email": r'[a-zA-Z0-9]+ ([._+-] [a-zA-Z0-9]+)* "@" [a-zA-Z0-9]+ ("-" [a-zA-Z0-9]+)* ("." [a-zA-Z0-9]+)+',
}
"""Held with days up to the 28th, so that every date exists."""

ANY_OBJECT = "root ::= object\n" + "\n".join(f"{name} ::= {body}" for name, body in GENERIC.items())
"""A grammar of all JSON objects."""
