"""What isolation is worth on this machine, found out by making a sandbox like any other, with nothing to do in it."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from byenatos_sandbox.attempt import LaunchError
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.launch import launch

__all__ = ["Checkup", "check_up", "rest"]

_CEILING_S = 30.0


class Checkup(Struct, frozen=True):
    """``layers`` are those that the sandbox did not have, ``open`` the kinds of isolation that were not there.

    ``failure`` says why there was no sandbox at all; nothing is known of the rest then.
    """

    layers: Mapping[str, str]
    open: Mapping[str, str]
    failure: str = ""


async def check_up() -> Checkup:
    """Make a sandbox, read what it found, and let it end. Call it in the main thread."""
    try:
        process = launch(Grant("checkup"), entry="byenatos_sandbox.checkup:rest", config=b"")
    except LaunchError as error:
        return Checkup({}, {}, error.message)
    try:
        end = await asyncio.wait_for(process.exited, _CEILING_S)
    except TimeoutError:
        process.kill()
        end = await process.exited
    finally:
        process.close()
    if end.status == 0:
        return Checkup(process.lacking, process.open)
    return Checkup(process.lacking, process.open, f"the sandbox {end.describe()}: {' '.join(process.output()[-3:])}")


def rest(_channel: int, _config: bytes) -> None:
    """Do nothing: the entry of the sandbox."""
