"""``byenatos config check``: read the configuration as strictly as the kernel does, without starting one."""

from pathlib import Path
from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import say, show_json

__all__ = ["check"]


def check(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="The file. Default: HOME/config.json.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check a configuration file and list the keys that are accepted but not yet in force."""
    from byenatos_kernel.config import ConfigError, read_config

    if path is not None and not path.exists():
        raise ConfigError(f"{path}: no such file")
    chosen = path or home_of(context).config
    config = read_config(chosen)
    notes = config.not_in_force()
    if as_json:
        show_json({"path": str(chosen), "ok": True, "not_in_force": notes})
        return
    say(f"{chosen}: {'ok' if chosen.exists() else 'no such file, all defaults'}")
    for note in notes:
        say(f"  {note}")
