"""``byenatos sessions``: list, show, move and remove the conversations that the kernel keeps."""

from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import dim, moment, one_line, printable, say, show_json, show_table
from byenatos_sdk.protocol.control import SessionTranscript
from byenatos_sdk.protocol.messages import Part, Reasoning, Text, ToolCall, ToolResult

__all__ = ["hibernate", "list_sessions", "move", "prefill", "remove", "show", "show_transcript", "wake"]


def list_sessions(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the sessions, and which are answered by another model than their slot's."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.sessions()
    if as_json:
        show_json(found)
        return
    show_table(
        ("session", "slot", "answered by", "turns", "changed", "title"),
        (
            (one.id, one.slot, one.home or "its slot", str(one.turns), moment(one.updated_at), one.title)
            for one in found
        ),
    )


def show(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Print a session's transcript."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.transcript(session)
    if as_json:
        show_json(found)
    else:
        show_transcript(found)


def show_transcript(found: SessionTranscript) -> None:
    """Print a transcript, each turn under who spoke and how it came about."""
    if found.info.home:
        say(dim(printable(f"moved to {found.info.home}; `byenatos sessions move {found.info.id} --back` returns it")))
    for turn in found.turns:
        notes = [turn.model] if turn.model else []
        notes += ["cut short"] if turn.state == "partial" else []
        notes += [f"moves: {turn.moves}"] if turn.moves else []
        who = f"{turn.message.role} ({', '.join(notes)})" if notes else turn.message.role
        say(dim(printable(f"{turn.number}. {who}:")))
        if turn.message.text or not turn.message.parts:
            say(printable(turn.message.text))
        for part in turn.message.parts:
            if (told := _told(part)) is not None:
                say(dim(one_line(told)))


def _told(part: Part) -> str | None:
    """Say what a part of a turn is that is no text."""
    match part:
        case Text():
            return None
        case ToolCall():
            return f"[calls {part.name} with {part.arguments}]"
        case ToolResult():
            return f"[{part.name or 'a tool'} {'failed' if part.is_error else 'answered'}: {part.text}]"
        case Reasoning():
            return f"[thought: {part.text or 'kept by the vendor'}]"
        case _:
            return f"[{type(part).__name__.lower()}]"


_One = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]


def prefill(context: typer.Context, session: _One, *, as_json: JsonOption = False) -> None:
    """Have the model of its slot read a session ahead, so that the next turn begins at once."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.prefill_session(session)
    if as_json:
        show_json(found)
    else:
        say(f"{found.model} has read {session}: {found.positions} positions")


def hibernate(context: typer.Context, session: _One, *, as_json: JsonOption = False) -> None:
    """Put what a model holds of a session into an encrypted file; it wakes by itself before the next turn."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.hibernate_session(session)
    if as_json:
        show_json(found)
    else:
        say(f"{session} sleeps: {found.positions} positions of {found.model}, {found.size_bytes / 1e6:.1f} MB")


def wake(context: typer.Context, session: _One, *, as_json: JsonOption = False) -> None:
    """Bring back what a model held of a hibernated session."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.wake_session(session)
    if as_json:
        show_json(found)
    else:
        say(f"{session} is awake: {found.positions} positions at {found.model}")


def move(
    context: typer.Context,
    session: _One,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="The model that is to answer it.")] = None,
    *,
    back: Annotated[bool, typer.Option("--back", help="Have its slot answer it again.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Move it in the middle of an answer, not after it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a model answer a session from now on, whatever its slot is swapped to."""
    from byenatos_sdk.client import Client

    if back == (model is not None):
        raise typer.BadParameter("expected MODEL or --back")
    with Client(home_of(context)) as client:
        if model is not None:
            found = client.move_session(session, model, now=now)
        else:
            found = client.move_session_back(session, now=now)
    if as_json:
        show_json(found)
    else:
        say(printable(f"{session} is answered by {model or 'its slot'}; it moved by {found.level}"))


def remove(
    context: typer.Context,
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION...", help="The ids of the sessions.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Remove sessions with all of their turns."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        for session in sessions:
            client.remove_session(session)
    if as_json:
        show_json({"removed": sessions})
    else:
        say(f"removed {', '.join(sessions)}")
