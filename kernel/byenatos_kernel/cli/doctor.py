"""``byenatos doctor``: what isolates drivers on this machine, what is missing, why, and what would change it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from byenatos_kernel import __version__
from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.power import running_kernel
from byenatos_kernel.cli.screen import printable, say, show_json, show_table
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError

if TYPE_CHECKING:
    from byenatos_kernel.diagnosis import Diagnosis, HomeFinding, LayerFinding

__all__ = ["HELP", "doctor"]


HELP = (
    "Say what isolates drivers on this machine, what is missing and why, and what would change it.\n\n"
    "A driver is other people's code. Around each stand several LAYERS: namespaces, Landlock, a filter of system "
    "calls, a control group. Each works for some KINDS of isolation. With filesystem isolation a driver opens its own "
    "code and what was granted to it, nothing else; with network isolation it reaches its kernel and, by the broker, "
    "what was granted; with system-calls isolation it makes the calls of an honest driver only; with processes "
    "isolation it sees and signals none but its own; with resources isolation its memory, threads and disk space end "
    "at its own bounds.\n\n"
    "Whether a kind is there is not concluded but tried, in a sandbox that is made for it. Which kinds a driver must "
    "have is said in policies/access.toml (isolation.required); one that must have what this machine does not give is "
    "not started.\n\n"
    "Needs no running kernel and changes nothing. Exit code 0: all that is required is there; 1: something is not."
)


def doctor(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Print what :func:`~byenatos_kernel.diagnosis.diagnose` finds; the exit code says whether it is enough."""
    import asyncio

    import msgspec

    from byenatos_kernel.diagnosis import diagnose

    home = home_of(context)
    found = asyncio.run(diagnose(home))
    found = msgspec.structs.replace(found, home=(*found.home, _look_at_kernel(home)))
    if as_json:
        show_json(found)
    else:
        _show(found)
    if not found.healthy:
        raise typer.Exit(1)


def _look_at_kernel(home: Home) -> "HomeFinding":
    from byenatos_kernel.diagnosis import HomeFinding

    try:
        status = running_kernel(home)
    except ByenatosError as error:
        return HomeFinding("kernel", ok=False, found=f"it does not answer: {error.message}", fix="byenatos down")
    if status is None:
        return HomeFinding("kernel", ok=True, found=f"none is running; this is version {__version__}")
    if status.version != __version__:
        found = f"version {status.version} is running (pid {status.pid}), this is {__version__}"
        return HomeFinding("kernel", ok=False, found=found, fix="byenatos down && byenatos up --detach")
    return HomeFinding("kernel", ok=True, found=f"version {status.version} is running, pid {status.pid}")


def _show(found: "Diagnosis") -> None:
    say(printable(found.machine))
    say()
    show_table(
        ("layer", "state", "works for"),
        ((one.words, _state(ok=one.ok), ", ".join(one.kinds)) for one in (*found.layers, *found.parts)),
    )
    _show_missing((*found.layers, *found.parts))
    say()
    show_table(
        ("drivers have", "state", "required", "what got through"),
        (
            (one.name, "isolated" if one.isolated else "OPEN", "yes" if one.required else "no", one.got_through)
            for one in found.kinds
        ),
    )
    say()
    show_table(
        ("home", "state", "found"), ((one.name, _state(ok=one.ok, bad="WRONG"), one.found) for one in found.home)
    )
    for one in found.home:
        if not one.ok:
            say(printable(f"{one.name}: to change it: {one.fix}"))
    say()
    _show_verdict(found)


def _show_missing(layers: "Iterable[LayerFinding]") -> None:
    """Print what is missing, and once what several lack for the same reason."""
    groups: dict[tuple[str, str], list[LayerFinding]] = {}
    for one in layers:
        if not one.ok:
            groups.setdefault((one.why, one.fix), []).append(one)
    for (why, fix), missing in groups.items():
        say()
        say(f"MISSING: {', '.join(one.words for one in missing)}")
        say(printable(f"  why:     {why}"))
        for one in missing:
            say(f"  without: {one.loss}")
        say(printable(f"  to fix:  {fix}"))


def _show_verdict(found: "Diagnosis") -> None:
    required = [kind.name for kind in found.kinds if kind.required]
    if found.failure:
        say(printable(f"drivers do NOT start here: {found.failure}"))
    elif found.lacking and found.uncontained:
        say(
            f"drivers start here WITHOUT {' and '.join(found.lacking)} isolation, because policies/access.toml says "
            "uncontained = true: whatever a driver does, it does with your rights"
        )
    elif found.lacking:
        say(
            f"drivers do NOT start here: policies/access.toml requires {', '.join(required)} isolation; "
            f"they would not have {' and '.join(found.lacking)} isolation; see MISSING above"
        )
    elif not found.drivers_start:
        say("drivers do NOT start here: policies/access.toml cannot be read, see above")
    else:
        asked = f"what policies/access.toml requires is there ({', '.join(required) or 'nothing'})"
        say(f"drivers start here: {asked}")
        if found.uncontained:
            say("note: policies/access.toml says uncontained = true, which nothing here needs: set it to false")


def _state(*, ok: bool, bad: str = "MISSING") -> str:
    return "ok" if ok else bad
