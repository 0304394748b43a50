"""Turn a conversation into the text that the model was trained to continue.

A model brings its own chat template, a small program in Jinja. It is foreign code: it runs in Jinja's immutable
sandbox, may not compute powers, is stopped after ``RENDER_TIMEOUT_S`` (by a trace function: a loop without output has
no other place to stop at) and may not write more than ``MAX_PROMPT`` characters. What it allocates on the way is
bounded by the process's memory limit.

A partial answer is continued by ending the prompt with it: the template opens the assistant's turn, then comes the
text so far, exactly as it is. That is the state the model was in when it wrote that text. Handing the text to the
template as a message instead would have it trimmed, closed, or stripped of its reasoning. Templates that never open a
turn by themselves are asked to write an answer made of a marker, and cut there.

White space at the seam: if the opening ends in spaces, they belong to the first word (``" Paris"`` is one token). So a
fresh prompt loses them and the answer's leading white space is dropped; a continued one keeps them.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Message, Reasoning, Text

__all__ = ["ChatTemplate", "Prompt", "read_turns"]

RENDER_TIMEOUT_S = 2.0
MAX_PROMPT = 16 << 20
MAX_TEMPLATE = 1 << 20
_MARKER = "\u241fanswer\u241f"

FALLBACK = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'user' -%}{{ 'Question: ' + message.content + '\\n' }}
{%- else -%}{{ 'Answer: ' + message.content + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Answer: ' }}{%- endif -%}
"""
"""For base models, which know no turns: they continue a page of questions and answers."""

FALLBACK_STOPS = ("\n\nQuestion:", "\nQuestion:")
"""Where the page goes on to a question that nobody asked."""


class Turn(NamedTuple):
    """One side's text until the other side speaks."""

    role: str
    content: str


class Prompt(NamedTuple):
    """What to continue. ``stops`` end the answer, ``lstrip`` drops white space before it.

    ``partial``: the text ends in the answer itself, not where it begins.
    """

    text: str
    stops: tuple[str, ...]
    lstrip: bool = False
    partial: bool = False


def read_turns(messages: tuple[Message, ...]) -> list[Turn]:
    """Return the text of ``messages``, neighbours of the same role merged with a blank line between them.

    Reasoning is left out, as templates do with that of earlier turns.

    Raises:
        InvalidRequest: a message holds something that this driver cannot read yet.
    """
    turns: list[Turn] = []
    for number, message in enumerate(messages, start=1):
        for part in message.parts:
            if not isinstance(part, Text | Reasoning):
                kind = type(part).__name__
                raise InvalidRequest(f"message {number}: the llamacpp driver reads text only, found {kind}")
        if message.role == "tool":
            raise InvalidRequest(f"message {number}: the llamacpp driver does not support tools yet, found a tool's")
        if turns and turns[-1].role == message.role:
            text = "\n\n".join(text for text in (turns.pop().content, message.text) if text)
            turns.append(Turn(message.role, text))
        else:
            turns.append(Turn(message.role, message.text))
    return turns


class ChatTemplate:
    """A model's chat template, or the fallback if ``source`` is empty.

    Raises:
        InvalidRequest: the template is not valid.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        self._stops = () if source else FALLBACK_STOPS
        self._tokens = {"bos_token": bos, "eos_token": eos}
        if len(source) > MAX_TEMPLATE:
            raise InvalidRequest(f"chat template: expected at most {MAX_TEMPLATE} characters, found {len(source)}")
        try:
            self._template = _environment().from_string(source or FALLBACK)
        except (TemplateError, RecursionError) as error:
            raise InvalidRequest(f"chat template: not a valid Jinja template: {error}") from None
        self._opens = self._opens_a_turn()

    def prompt(self, messages: tuple[Message, ...]) -> Prompt:
        """Return the prompt that the model is to continue; a trailing assistant message is continued.

        Raises:
            InvalidRequest: the template refuses the conversation, or fails.
        """
        turns = read_turns(messages)
        partial = turns.pop().content if turns and turns[-1].role == "assistant" else ""
        if not turns:
            raise InvalidRequest("messages: expected at least one message of the user, found none")
        opening = self._with_system(turns)
        bare = opening.rstrip(" ")
        if partial:
            return Prompt((bare if partial[0].isspace() else opening) + partial, self._stops, partial=True)
        return Prompt(bare, self._stops, lstrip=bare != opening)

    def _with_system(self, turns: list[Turn]) -> str:
        """Render; if the template refuses or drops system messages, say them in the user's next turn."""
        instructions = [turn.content.strip() for turn in turns if turn.role == "system"]
        try:
            text = self._open(turns)
        except InvalidRequest:
            if not instructions:
                raise
        else:
            if all(instruction in text for instruction in instructions):
                return text
        return self._open(_fold_system(turns))

    def _open(self, turns: list[Turn]) -> str:
        """Render ``turns`` up to where the assistant's next turn begins."""
        if self._opens:
            return self._render(turns, opening=True)
        text = self._render([*turns, Turn("assistant", _MARKER)], opening=False)
        end = text.rfind(_MARKER)
        return text[:end] if end >= 0 else text

    def _opens_a_turn(self) -> bool:
        """Say whether the template knows ``add_generation_prompt``."""
        sample = [Turn("user", "Hello")]
        try:
            return self._render(sample, opening=True) != self._render(sample, opening=False)
        except InvalidRequest:
            return True

    def _render(self, turns: list[Turn], *, opening: bool) -> str:
        """Run the template. It is foreign code: whatever it raises is reported as its refusal."""
        pieces = self._template.generate(
            messages=[turn._asdict() for turn in turns],
            add_generation_prompt=opening,
            tools=None,
            documents=None,
            **self._tokens,
        )
        try:
            with _deadline(RENDER_TIMEOUT_S):
                return _joined(pieces)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise InvalidRequest(f"the model's chat template refuses this conversation: {reason}") from error


def _fold_system(turns: list[Turn]) -> list[Turn]:
    """Move each system turn into the user's turn after it, or before it if there is none."""
    folded: list[Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user":
            waiting.append(turn.content)
            folded.append(Turn("user", "\n\n".join(waiting)))
            waiting = []
        else:
            folded.append(turn)
    if waiting:
        last = folded.pop().content if folded and folded[-1].role == "user" else ""
        folded.append(Turn("user", "\n\n".join(text for text in (last, *waiting) if text)))
    return folded


# ---- the environment that chat templates expect -----------------------------------------------------------------


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


def _to_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which a model does not read.
    return json.dumps(value, ensure_ascii=False, indent=indent)


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
