"""Run chat templates: foreign programs in Jinja, in its immutable sandbox.

A template may not compute powers, is stopped after ``RENDER_TIMEOUT_S`` (by a trace function: a loop without output has
no other place to stop at) and may not write more than ``MAX_PROMPT`` characters. What it allocates is bounded by the
process's memory limit.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["compile_template", "render"]

RENDER_TIMEOUT_S = 2.0
MAX_PROMPT = 16 << 20
MAX_TEMPLATE = 1 << 20


def compile_template(source: str) -> tuple[Template, frozenset[str]]:
    """Return the template and the names that it reads from its caller.

    Raises:
        InvalidRequest: it is not valid, or too large.
    """
    if len(source) > MAX_TEMPLATE:
        raise InvalidRequest(f"chat template: expected at most {MAX_TEMPLATE} characters, found {len(source)}")
    environment = _environment()
    try:
        names = meta.find_undeclared_variables(environment.parse(source))
        return environment.from_string(source), frozenset(names)
    except (TemplateError, RecursionError) as error:
        raise InvalidRequest(f"chat template: not a valid Jinja template: {error}") from None


def render(template: Template, values: dict[str, Any]) -> str:
    """Return what ``template`` writes. It is foreign code: whatever it raises is reported as its refusal.

    Raises:
        InvalidRequest: it raised something, wrote too much or ran too long.
    """
    try:
        with _deadline(RENDER_TIMEOUT_S):
            return _joined(template.generate(**values))
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InvalidRequest(f"the model's chat template refuses this conversation: {reason}") from error


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}`` marks the assistant's words for training; here it means nothing."""

    tags = {"generation"}  # noqa: RUF012  (an instance variable to jinja2)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> NoReturn:  # noqa: ARG002  (given)
        raise SecurityError(f"expected no {operator!r} in a chat template: one power can take hours")


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (a filter of other people's templates)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    # Jinja's own filter escapes for HTML, which a model does not read.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


class _TooMuch(Exception):
    """A template ran too long or wrote too much."""


def _joined(pieces: Iterator[str]) -> str:
    text: list[str] = []
    size = 0
    for piece in pieces:
        text.append(piece)
        size += len(piece)
        if size > MAX_PROMPT:
            raise _TooMuch(f"it wrote more than {MAX_PROMPT} characters")
    return "".join(text)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Interrupt the Python code of this thread after ``seconds``, at its next line."""
    end = time.monotonic() + seconds

    def trace(frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG001  (sys.settrace gives them)
        if time.monotonic() > end:
            raise _TooMuch(f"it did not end within {seconds:g} s")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
