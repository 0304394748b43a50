"""The table of commands. Each command lives with its noun; this module only names them and reads ``--home``."""

from pathlib import Path
from typing import Annotated

import typer

from byenatos_kernel.cli import (
    chat,
    config,
    demo,
    doctor,
    driver,
    events,
    install,
    keys,
    models,
    power,
    ps,
    renewals,
    secrets,
    sessions,
    status,
    swaps,
    triggers,
    trust,
    tryout,
)
from byenatos_sdk.home import Home

__all__ = ["app"]

_EPILOG = (
    "Exit codes: 0 done; 1 it failed, as said on standard error; 2 wrong usage or configuration; "
    "3 no kernel is running (start one: byenatos up), or one is already; 130 interrupted."
)


def _choose_home(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="PATH", help="The kernel's folder. Default: $BYENATOS_HOME, else ~/.byenatos."),
    ] = None,
) -> None:
    """A socket for AI processors: talk to slots, plug models into them, swap them while they answer."""
    context.obj = Home(home)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_choose_home)
app.command("up")(power.up)
app.command("down")(power.down)
app.command("init")(trust.init)
app.command("status")(status.status)
app.command("slots")(status.slots)
app.command("ps", help=ps.HELP)(ps.ps)
app.command("doctor", help=doctor.HELP)(doctor.doctor)
app.command("swap")(swaps.swap)
app.command("triggers")(triggers.triggers)
app.command("chat")(chat.chat)
app.command("ask")(chat.ask)
app.command("events")(events.events)
app.command("demo")(demo.demo)

_swaps = typer.Typer(help=swaps.swaps.__doc__)
_swaps.callback(invoke_without_command=True)(swaps.swaps)
_swaps.command("show")(swaps.show)
_swaps.command("cancel")(swaps.cancel)
app.add_typer(_swaps, name="swaps")

_models = typer.Typer(no_args_is_help=True, help="The models that the kernel knows.")
_models.command("list")(models.list_models)
_models.command("offered")(models.offered)
_models.command("refresh")(models.refresh)
_models.command("pull")(models.pull_models)
_models.command("load")(models.load)
_models.command("unload")(models.unload)
_models.command("reload")(renewals.reload)
_models.command("preload")(models.preload)
_models.command("usage")(models.usage)
app.add_typer(_models, name="models")

_driver = typer.Typer(no_args_is_help=True, help="Plugins: who signed them, whom you trust, install and remove.")
_driver.command("list")(driver.list_drivers)
_driver.command("verify")(driver.verify)
_driver.command("keygen")(driver.keygen)
_driver.command("sign")(driver.sign)
_driver.command("trust")(trust.trust)
_driver.command("revoke")(trust.revoke)
_driver.command("allow-downgrade")(trust.allow_downgrade)
_driver.command("install")(install.install)
_driver.command("remove")(install.remove)
_driver.command("upgrade")(renewals.upgrade)
_driver.command("rollback")(renewals.rollback)
_driver.command("run")(tryout.run)
app.add_typer(_driver, name="driver")

_sessions = typer.Typer(no_args_is_help=True, help="The conversations that the kernel keeps.")
_sessions.command("list")(sessions.list_sessions)
_sessions.command("show")(sessions.show)
_sessions.command("move")(sessions.move)
_sessions.command("prefill")(sessions.prefill)
_sessions.command("hibernate")(sessions.hibernate)
_sessions.command("wake")(sessions.wake)
_sessions.command("rm")(sessions.remove)
app.add_typer(_sessions, name="sessions")

_secrets = typer.Typer(no_args_is_help=True, help="The keys that the broker puts into drivers' requests.")
_secrets.command("list")(secrets.list_secrets)
app.add_typer(_secrets, name="secrets")

_keys = typer.Typer(no_args_is_help=True, help="The keys by which applications are known where HTTP is spoken.")
_keys.command("make")(keys.make)
app.add_typer(_keys, name="keys")

_config = typer.Typer(no_args_is_help=True, help="The kernel's configuration, HOME/config.json.")
_config.command("check")(config.check)
app.add_typer(_config, name="config")
