"""Turn a conversation into the text that the model was trained to continue.

A model brings its own chat template, a small program in Jinja (``llamacpp_jinja`` runs it). A template that drops or
refuses what it does not know gets it in words: system prompts in the user's turn, tool calls and their results as text.
Whether it dropped something is seen from what it wrote.

A partial answer is continued by ending the prompt with it: the template opens the assistant's turn, then comes the
text so far, exactly as it is. That is the state the model was in when it wrote that text. Handing the text to the
template as a message instead would have it trimmed, closed, or stripped of its reasoning. Templates that never open a
turn by themselves are asked to write an answer made of a marker, and cut there.

White space at the seam: if the opening ends in spaces, they belong to the first word (``" Paris"`` is one token). So a
fresh prompt loses them and the answer's leading white space is dropped; a continued one keeps them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Message, Tool
from llamacpp_jinja import compile_template, render
from llamacpp_tools import Family, as_json, family_of, instruct
from llamacpp_turns import Turn, fold_system, read_turns, spell_calls

__all__ = ["ChatTemplate", "Prompt"]

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


class Prompt(NamedTuple):
    """What to continue. ``stops`` end the answer, ``lstrip`` drops white space before it.

    ``partial``: the text ends in the answer itself, not where it begins.
    """

    text: str
    stops: tuple[str, ...]
    lstrip: bool = False
    partial: bool = False


class ChatTemplate:
    """A model's chat template, or the fallback if ``source`` is empty. ``family``: how the model writes tool calls.

    Raises:
        InvalidRequest: the template is not valid.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        family = family_of(source)
        self.family = family or Family()
        self._stops = () if source else FALLBACK_STOPS
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._template, names = compile_template(source or FALLBACK)
        self._knows_tools = "tools" in names and family is not None
        self._no_tools = self._without_tools()
        self._opens = self._opens_a_turn()

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Prompt:
        """Return the prompt that the model is to continue; a trailing assistant message is continued.

        Raises:
            InvalidRequest: the template refuses the conversation, or fails.
        """
        turns = read_turns(messages)
        ends_open = bool(turns) and turns[-1].role == "assistant" and not turns[-1].calls
        partial = turns.pop().content if ends_open else ""
        if not turns:
            raise InvalidRequest("messages: expected at least one message of the user, found none")
        opening = self._with_tools(turns, tools)
        bare = opening.rstrip(" ")
        if partial:
            return Prompt((bare if partial[0].isspace() else opening) + partial, self._stops, partial=True)
        return Prompt(bare, self._stops, lstrip=bare != opening)

    def _with_tools(self, turns: list[Turn], tools: Sequence[Tool]) -> str:
        """Render; if the template does not know tools, or drops calls or results, they are said in words."""
        said = [turn.content.strip() for turn in turns if turn.role == "tool"]
        said += [call.name for turn in turns for call in turn.calls]
        if not tools and not said:
            return self._with_system(turns, ())
        if self._knows_tools or not tools:
            try:
                text = self._with_system(turns, tools)
            except InvalidRequest:
                if not said:
                    raise
            else:
                if all(one in text for one in said):
                    return text
        turns = spell_calls(turns)
        if self._knows_tools or not tools:
            return self._with_system(turns, tools)
        rest = turns[1:] if turns[0].role == "system" else turns
        words = [turns[0].content, instruct(tools)] if turns[0].role == "system" else [instruct(tools)]
        return self._with_system([Turn("system", "\n\n".join(words)), *rest], ())

    def _with_system(self, turns: list[Turn], tools: Sequence[Tool]) -> str:
        """Render; if the template refuses or drops system messages, say them in the user's next turn."""
        instructions = [turn.content.strip() for turn in turns if turn.role == "system"]
        try:
            text = self._open(turns, tools)
        except InvalidRequest:
            if not instructions:
                raise
        else:
            if all(instruction in text for instruction in instructions):
                return text
        return self._open(fold_system(turns), tools)

    def _open(self, turns: list[Turn], tools: Sequence[Tool]) -> str:
        """Render ``turns`` up to where the assistant's next turn begins."""
        if self._opens:
            return self._render(turns, tools, opening=True)
        text = self._render([*turns, Turn("assistant", _MARKER)], tools, opening=False)
        end = text.rfind(_MARKER)
        return text[:end] if end >= 0 else text

    def _without_tools(self) -> dict[str, Any]:
        """Return how to say that there are none: most templates expect ``None``, some to hear nothing of tools."""
        sample = [Turn("user", "Hello").for_template()]
        values = {"messages": sample, "add_generation_prompt": True, "tools": None, **self._tokens}
        try:
            render(self._template, values)
        except InvalidRequest:
            return {}
        return {"tools": None}

    def _opens_a_turn(self) -> bool:
        """Say whether the template knows ``add_generation_prompt``."""
        sample = [Turn("user", "Hello")]
        try:
            return self._render(sample, (), opening=True) != self._render(sample, (), opening=False)
        except InvalidRequest:
            return True

    def _render(self, turns: list[Turn], tools: Sequence[Tool], *, opening: bool) -> str:
        values: dict[str, Any] = {
            "messages": [turn.for_template() for turn in turns],
            "add_generation_prompt": opening,
            "documents": None,
            **({"tools": [as_json(tool) for tool in tools]} if tools else self._no_tools),
            **self._tokens,
        }
        return render(self._template, values)
