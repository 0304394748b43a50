"""``byenatos config check``: read what the operator wrote as strictly as the kernel does, without starting one."""

from pathlib import Path
from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import say, show_json

__all__ = ["check"]


def check(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="The file. Default: HOME/config.json, and the policies.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check a configuration file and list the keys that are accepted but not yet in force.

    Without PATH access.toml and swap.toml are checked as well.
    """
    from byenatos_kernel.access import read_access
    from byenatos_kernel.config import ConfigError, read_config
    from byenatos_kernel.shipped import access_file, swap_file
    from byenatos_kernel.swap_policy import read_swap_policy

    if path is not None and not path.exists():
        raise ConfigError(f"{path}: no such file")
    home = home_of(context)
    chosen = path or home.config
    config = read_config(chosen)
    policies = (access_file(home), swap_file(home)) if path is None else ()
    if policies:
        read_access(policies[0])
        read_swap_policy(policies[1])
    notes = config.not_in_force()
    if as_json:
        show_json({"path": str(chosen), "ok": True, "not_in_force": notes})
        return
    say(f"{chosen}: {'ok' if chosen.exists() else 'no such file, all defaults'}")
    for note in notes:
        say(f"  {note}")
    for policy in policies:
        say(f"{policy}: ok")
