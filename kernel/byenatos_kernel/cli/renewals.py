"""``byenatos models reload``, ``byenatos driver upgrade`` and ``rollback``: new processes for what runs."""

from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, StrategyOption, home_of
from byenatos_kernel.cli.screen import say, show_json
from byenatos_sdk.protocol.control import Renewal

__all__ = ["reload", "rollback", "upgrade"]

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model that is loaded.")]
_Driver = Annotated[str, typer.Argument(metavar="ID", help="The plugin.")]


def reload(
    context: typer.Context, model: _Model, *, strategy: StrategyOption = "graceful", as_json: JsonOption = False
) -> None:
    """Give a loaded model new processes, in every slot, while it serves."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        _show(client.reload(model, strategy=strategy), as_json=as_json)


def upgrade(
    context: typer.Context, driver: _Driver, *, strategy: StrategyOption = "graceful", as_json: JsonOption = False
) -> None:
    """Exchange what runs of a driver for the version in its folder; if that cannot serve, all goes back."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        _show(client.upgrade_driver(driver, strategy=strategy), as_json=as_json)


def rollback(
    context: typer.Context, driver: _Driver, *, strategy: StrategyOption = "graceful", as_json: JsonOption = False
) -> None:
    """Exchange what runs of a driver for the version before; that stays until it is upgraded again."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        _show(client.roll_back_driver(driver, strategy=strategy), as_json=as_json)


def _show(done: Renewal, *, as_json: bool) -> None:
    if as_json:
        show_json(done)
        return
    say(f"{done.driver} {done.version} serves {', '.join(done.models) or 'nothing that another version served'}")
    if done.slots:
        say(f"  slots: {', '.join(done.slots)}")
