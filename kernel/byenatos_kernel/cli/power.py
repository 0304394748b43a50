"""``byenatos up`` and ``byenatos down``: start the kernel and stop it.

The kernel is another program, not this one with another function: ``up`` replaces itself with it, so that the running
kernel carries neither typer nor rich.
"""

import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import printable, say, show_json
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import KernelStatus
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded

if TYPE_CHECKING:
    from byenatos_sdk.client import Client

__all__ = ["down", "running_kernel", "start_detached", "stop", "up"]

_LOOK_EVERY_S = 0.05
_LAST_LINES = 15
_HELD_BY_ANOTHER = 3  # the daemon's exit code
_LAST_BYTES = 16 << 10


def up(
    context: typer.Context,
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it in the background and return.")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0.1, help="With --detach: how long it may take to answer.")
    ] = 30.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start the kernel, in the foreground unless --detach is given."""
    home = home_of(context)
    if not detach:
        if as_json:
            raise typer.BadParameter("--json needs --detach: in the foreground the kernel prints its log")
        sys.stdout.flush()
        command = _command(home, verbose=verbose)
        os.execv(command[0], command)  # noqa: S606  our own interpreter; no shell is wanted
    found = running_kernel(home)
    status = found or start_detached(home, wait_s=wait_s, verbose=verbose)
    if as_json:
        show_json(status)
    else:
        say(f"kernel {'is already running' if found else 'started'}: pid {status.pid}, {status.endpoint}")


def down(
    context: typer.Context,
    *,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0.1, help="How long it may take to drain and stop.")
    ] = 15.0,
    as_json: JsonOption = False,
) -> None:
    """Stop the kernel and wait until it is gone."""
    home = home_of(context)
    pid = stop(home, wait_s=wait_s)
    if as_json:
        show_json({"stopped": pid is not None, "pid": pid})
    else:
        say(f"no kernel is running for {home.path}" if pid is None else f"kernel stopped: pid {pid}")


def running_kernel(home: Home) -> KernelStatus | None:
    """Return the status of the kernel of ``home``, or nothing if none is running."""
    from byenatos_sdk.client import Client, KernelNotRunning

    try:
        with Client(home) as client:
            return client.status()
    except KernelNotRunning:
        return None


def start_detached(home: Home, *, wait_s: float, verbose: bool = False) -> KernelStatus:
    """Start a kernel in a session of its own, its output in ``home.log``, and wait until it answers.

    Raises:
        ByenatosError: if it ends before; with the last lines of its log.
        DeadlineExceeded: if it does not answer within ``wait_s`` seconds; it is stopped again.
    """
    home.create()
    with home.log.open("ab") as log:
        begin = log.tell()
        kernel = subprocess.Popen(  # noqa: S603  our own interpreter and module
            _command(home, verbose=verbose), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + wait_s
    while kernel.poll() in {None, _HELD_BY_ANOTHER}:  # another one that is still starting is as good as ours
        status = running_kernel(home)
        if status is not None:
            return status
        if time.monotonic() > deadline:
            kernel.terminate()
            raise DeadlineExceeded(f"the kernel does not answer after {wait_s:g} s; {_last_lines(home, begin)}")
        time.sleep(_LOOK_EVERY_S)
    raise ByenatosError(f"the kernel ended at once, with exit code {kernel.returncode}; {_last_lines(home, begin)}")


def stop(home: Home, *, wait_s: float) -> int | None:
    """Ask the kernel of ``home`` to stop; return its process id once it is gone, or nothing if none was running.

    Raises:
        DeadlineExceeded: if it is still there after ``wait_s`` seconds.
    """
    from byenatos_sdk.client import Client, KernelNotRunning

    try:
        with Client(home) as client:
            pid = client.status().pid
            return _stop(client, pid, wait_s)
    except KernelNotRunning:
        return None


def _stop(client: "Client", pid: int, wait_s: float) -> int:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        client.shutdown()
        ready, _, _ = select.select([process], [], [], wait_s)  # a pidfd is readable once its process has ended
    finally:
        os.close(process)
    if not ready:
        raise DeadlineExceeded(f"kernel {pid} is still there after {wait_s:g} s; wait longer (--wait), or: kill {pid}")
    return pid


def _command(home: Home, *, verbose: bool) -> list[str]:
    # -P: what lies in the current folder must not be imported in place of the kernel.
    command = [sys.executable, "-P", "-m", "byenatos_kernel.daemon", "--home", str(home.path)]
    return [*command, "--verbose"] if verbose else command


def _last_lines(home: Home, begin: int) -> str:
    """Return what the log of ``home`` says since byte ``begin``."""
    with home.log.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        log.seek(max(begin, end - _LAST_BYTES))
        text = log.read().decode(errors="replace")
    lines = printable(text).strip().splitlines()[-_LAST_LINES:]
    if not lines:
        return f"{home.log} says nothing"
    return "\n  ".join((f"the last lines of {home.log}:", *lines))
