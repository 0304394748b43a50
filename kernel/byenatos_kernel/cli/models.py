"""``byenatos models``: list, ask vendors for theirs, pull, load, preload and unload, and how often they are used."""

from pathlib import Path
from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import megabytes, say, show_json, show_json_line, show_table
from byenatos_sdk.protocol.control import ModelInfo

__all__ = [
    "list_models",
    "load",
    "offered",
    "preload",
    "pull_models",
    "refresh",
    "show_models",
    "unload",
    "usage",
]


def list_models(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the models, those that were refused too, with the reason."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.models()
    if as_json:
        show_json(found)
    else:
        show_models(found)


def show_models(found: list[ModelInfo]) -> None:
    """Print models as a table."""
    show_table(
        ("model", "driver", "state", "size", "context", "slots", "detail"),
        (
            (
                one.id,
                one.driver or "-",
                "loaded" if one.instances else one.state,
                megabytes(one.specification.size_bytes) if one.specification and one.specification.size_bytes else "-",
                str(one.specification.context_length or "-") if one.specification else "-",
                ", ".join(one.slots) or "-",
                one.reason or (one.specification.name if one.specification else ""),
            )
            for one in found
        ),
    )


def offered(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="SLOT|MODEL", help="Any loaded model of the vendor.")] = "default",
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask the vendor of a loaded model what else it offers; `byenatos models refresh` makes that loadable."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.vendor_models(model)
    if as_json:
        show_json(found)
    else:
        show_table(
            ("model", "context", "features", "name"),
            (
                (one.id, str(one.context_length or "-"), ", ".join(sorted(one.features)) or "-", one.name)
                for one in sorted(found, key=lambda one: one.id)
            ),
        )


def refresh(
    context: typer.Context,
    driver: Annotated[
        str, typer.Argument(metavar="DRIVER", help="Default: every driver that has a model loaded.", show_default=False)
    ] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask vendors for their lists and make what they offer loadable; what they dropped goes unless it is used."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.refresh_models(driver)
    if as_json:
        show_json(found)
    else:
        show_table(
            ("driver", "offered", "new", "gone", "taken", "left out", "detail"),
            (
                (
                    *(one.driver, str(one.offered), str(len(one.added)), str(len(one.removed)), str(len(one.taken))),
                    *(str(one.left_out), one.problem or _some(one.added)),
                )
                for one in found
            ),
        )
    if any(one.problem for one in found):
        raise typer.Exit(1)


def _some(names: tuple[str, ...]) -> str:
    """Return the first few of ``names``."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def pull_models(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="NAME|PATH|URL...", help="smollm2, gemma-3-270m, a GGUF file, or where one is."),
    ],
    *,
    name: Annotated[str | None, typer.Option("--as", metavar="ID", help="Store it under this model id.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="What the file must be.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Where to put it. Default: HOME/models.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring model files into the models folder; a running kernel takes them up by itself."""
    from byenatos_kernel.cli.catalogue import CATALOGUE
    from byenatos_kernel.cli.meter import choose_meter
    from byenatos_kernel.cli.pull import pull

    if len(sources) > 1 and (name or sha256):
        raise typer.BadParameter("--as and --sha256 speak of one model: pull the others separately")
    models = folder.absolute() if folder else home_of(context).models
    for source in sources:
        pulled = pull(source, models, choose_meter(machine=as_json), name=name, sha256=sha256)
        if as_json:
            show_json_line(pulled)
            continue
        state = "is already there" if pulled.already_there else "pulled"
        say(f"{pulled.model} {state}: {pulled.path} ({megabytes(pulled.size_bytes)}, SHA-256 {pulled.sha256[:16]}…)")
        if source in CATALOGUE and not pulled.already_there:
            say(f"  {CATALOGUE[source].summary}; licence: {CATALOGUE[source].licence}")


def load(
    context: typer.Context,
    model: str,
    *,
    slot: Annotated[str | None, typer.Option("--slot", help="Bind a new slot of this name to it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Load a model and keep it loaded."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        instance = client.load(model, slot=slot)
    if as_json:
        show_json(instance)
    else:
        bound = f", slot {slot} is bound to it" if slot else ""
        say(f"{instance.model} is {instance.state.value}: driver {instance.driver}, pid {instance.pid}{bound}")


def unload(context: typer.Context, model: str, *, as_json: JsonOption = False) -> None:
    """Stop the processes of a model that no slot is bound to."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        client.unload(model)
    if as_json:
        show_json({"unloaded": model})
    else:
        say(f"{model} is unloaded")


def preload(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model; `byenatos models usage` says which pay.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Load MODEL without a slot, so that a swap to it only switches; it goes again once nobody has used it for long."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        instance = client.preload(model)
    if as_json:
        show_json(instance)
    else:
        say(f"{instance.model} is preloaded: driver {instance.driver}, pid {instance.pid}")


def usage(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Show how often models were asked for in hours like the one that comes, and which are likely to be wanted."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        report = client.usage()
    if as_json:
        show_json(report)
        return
    days = "working days" if report.working else "weekends"
    say(f"requests from {report.hour}:00 to {report.hour}:59 on {days} of the last {report.weeks} weeks and this one:")
    show_table(
        ("model", "requests", "share", "state", "preload"),
        (
            (
                one.model,
                str(one.requests),
                f"{one.share:.1%}",
                "preloaded" if one.preloaded else "loaded" if one.loaded else "-",
                "yes" if one.likely else "no",
            )
            for one in report.models
        ),
    )
    switch = "on" if report.automatic else "off: automatic = true under [preload] in policies/swap.toml"
    say(f"models of at least {report.least_share:.0%} are worth preloading; that is {switch}")
