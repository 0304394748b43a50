"""``byenatos chat`` and ``byenatos ask``: talk to a slot.

A chat connects anew for each turn: the conversation is kept by the kernel, so that a chat outlives a kernel that was
restarted in between. Ctrl-C during an answer ends that answer; at the prompt it ends the chat.
"""

import secrets
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from byenatos_kernel.cli.answer import show_answer, show_note
from byenatos_kernel.cli.options import JsonOption, MaxTokensOption, SessionOption, TemperatureOption, home_of
from byenatos_kernel.cli.screen import complain, is_terminal, say, show_json, show_json_line
from byenatos_kernel.cli.swaps import show_swap
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import Sampling, SwapRequest, SwapStrategy

if TYPE_CHECKING:
    from byenatos_sdk.client import Client

__all__ = ["ask", "chat"]

_HELP = """\
/model                      show the model that answers
/swap MODEL [STRATEGY]      let another model answer: immediate (if none is named), graceful, session_aware, background
/help                       show this
/exit                       leave; Ctrl-D does it too
Ctrl-C ends an answer that is under way. A line that is to begin with / may have a space before it."""

_STRATEGIES: dict[str, SwapStrategy] = {name: name for name in get_args(SwapStrategy)}


def chat(
    context: typer.Context,
    slot: Annotated[str | None, typer.Argument(help="The slot. Default: the session's, else default.")] = None,
    *,
    named: Annotated[str | None, typer.Option("--slot", help="The slot, as `ask` takes it.")] = None,
    session: SessionOption = None,
    new: Annotated[bool, typer.Option("--new", help="Begin a new session, which is what happens anyway.")] = False,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Talk to SLOT; each line is a turn, from a pipe as well. With --json a line of JSON for each answer."""
    if new and session:
        raise typer.BadParameter("--new and --session exclude each other")
    if slot and named:
        raise typer.BadParameter(f"expected one slot, found {slot} and {named}")
    home = home_of(context)
    slot = _slot_of(home, session, slot or named)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    conversation = _Conversation(home, slot, session or secrets.token_hex(6), sampling, as_json=as_json)
    try:
        conversation.hold()
    finally:
        if conversation.turns:
            show_note(f"continue with: byenatos chat --session {conversation.session}")


def ask(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question; - reads it from standard input.")],
    *,
    slot: Annotated[str | None, typer.Option("--slot", help="Default: the session's, else default.")] = None,
    session: SessionOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask one question and print the answer as it comes."""
    from byenatos_sdk.client import Client

    home = home_of(context)
    slot = _slot_of(home, session, slot)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    question = sys.stdin.read() if text == "-" else text
    with Client(home) as client:
        if as_json:
            show_json(client.infer(question, model=slot, session=session, sampling=sampling))
            return
        with client.stream(question, model=slot, session=session, sampling=sampling) as stream:
            show_answer(stream)


def _slot_of(home: Home, session: str | None, slot: str | None) -> str:
    """Return the slot to talk to, and make sure that the kernel runs before anything is typed."""
    from byenatos_sdk.client import Client

    with Client(home) as client:
        kept = _kept_slot(client, session) if session else ""
    return slot or kept or "default"


def _kept_slot(client: "Client", session: str) -> str:
    """Return the slot that a session was held with; empty for one that begins now."""
    try:
        return client.transcript(session).info.slot
    except NotFound:
        return ""


class _Conversation:
    """One chat: reads lines, sends turns, obeys commands."""

    def __init__(self, home: Home, slot: str, session: str, sampling: Sampling, *, as_json: bool) -> None:
        self.session = session
        self.turns = 0
        self._home = home
        self._slot = slot
        self._sampling = sampling
        self._as_json = as_json
        self._at_keyboard = sys.stdin.isatty() and is_terminal() and not as_json

    def hold(self) -> None:
        """Take turns until the lines end. At a keyboard the chat goes on after an error, in a pipe it ends there."""
        if self._at_keyboard:
            show_note(f"slot {self._slot}, session {self.session}; /help lists the commands")
        for line in self._lines():
            if line.strip() == "/exit":
                return
            try:
                self._obey(line.split()) if line.startswith("/") else self._take_turn(line.strip())
            except ByenatosError as error:
                if not self._at_keyboard:
                    raise
                complain(error.message)

    def _lines(self) -> Iterator[str]:
        if not self._at_keyboard:
            yield from sys.stdin
            return
        import readline  # noqa: F401  gives input() a history and line editing

        while True:
            try:
                yield input(f"{self._slot}> ")
            except EOFError:
                say()
                return

    def _take_turn(self, text: str) -> None:
        from byenatos_sdk.client import Client

        if not text:
            return
        self.turns += 1
        with Client(self._home) as client:
            if self._as_json:
                show_json_line(client.infer(text, model=self._slot, session=self.session, sampling=self._sampling))
                return
            with client.stream(text, model=self._slot, session=self.session, sampling=self._sampling) as stream:
                try:
                    show_answer(stream)
                except KeyboardInterrupt:
                    if not self._at_keyboard:
                        raise
                    show_note("cancelled")

    def _obey(self, words: list[str]) -> None:
        from byenatos_sdk.client import Client

        match words:
            case ["/help"]:
                show_note(_HELP)
            case ["/model"]:
                with Client(self._home) as client:
                    found = next((slot for slot in client.slots() if slot.name == self._slot), None)
                show_note(f"{self._slot}: {found.model} ({found.state})" if found else f"no slot {self._slot} any more")
            case ["/swap", model]:
                self._swap(model, "immediate")
            case ["/swap", model, strategy] if strategy in _STRATEGIES:
                self._swap(model, _STRATEGIES[strategy])
            case _:
                raise InvalidRequest(f"expected a command, found {' '.join(words)!r}\n{_HELP}")

    def _swap(self, model: str, strategy: SwapStrategy) -> None:
        from byenatos_sdk.client import Client

        with Client(self._home) as client:
            if self._as_json:
                show_json_line(client.swap(self._slot, model, strategy=strategy))
            elif is_terminal():
                show_swap(client, SwapRequest(self._slot, model, strategy))
            else:
                last = client.swap(self._slot, model, strategy=strategy)
                show_note(f"{self._slot}: {last.target} answers now")
