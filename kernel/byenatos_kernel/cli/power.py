"""``byenatos up`` and ``byenatos down``: start the kernel and stop it.

The kernel is another program, not this one with another function: ``up`` replaces itself with it, so that the running
kernel carries neither typer nor rich.
"""

import fcntl
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of, wait_option
from byenatos_kernel.cli.screen import printable, say, show_json
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import KernelStatus
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded, Unavailable

__all__ = ["down", "running_kernel", "start_detached", "stop", "up"]

_QUESTION = '{"model": "default", "messages": [{"role": "user", "content": "Hello"}]}'
_LOOK_EVERY_S = 0.05
_LAST_LINES = 15
_HELD_BY_ANOTHER = 3  # the daemon's exit code
_LAST_BYTES = 16 << 10


def up(
    context: typer.Context,
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it in the background and return.")] = False,
    wait_s: Annotated[float, wait_option("With --detach: how long it may take to answer.")] = 30.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start the kernel, in the foreground unless --detach is given."""
    from byenatos_kernel.config import write_first_config

    home = home_of(context)
    if not detach:
        if as_json:
            raise typer.BadParameter("--json needs --detach: in the foreground the kernel prints its log")
        with suppress(OSError):  # what is wrong with the home is the kernel's to say
            home.create()
            write_first_config(home.config)
        for line in invitations(home):
            say(line)
        sys.stdout.flush()
        command = _command(home, verbose=verbose)
        os.execv(command[0], command)  # noqa: S606  our own interpreter; no shell is wanted
    found = running_kernel(home)
    status = found or start_detached(home, wait_s=wait_s, verbose=verbose)
    if as_json:
        show_json(status)
    else:
        say(f"kernel {'is already running' if found else 'started'}: pid {status.pid}, {status.endpoint}")
        for line in invitations(home):
            say(line)


def invitations(home: Home) -> list[str]:
    """Say where applications that speak HTTP find the kernel, in lines to paste; nothing if it has no such front."""
    from byenatos_kernel.config import read_config

    try:
        front = read_config(home.config).fronts.get("http")
    except ByenatosError:
        return []  # whoever reads it next says what is wrong with it
    if front is None or not front.workers:
        return []
    url = f"http://{front.listen}"
    return [
        f"HTTP: {url}  (OpenAI, Anthropic, Google, Ollama and others; `fronts` in {home.config})",
        f'  openai:      client = OpenAI(base_url="{url}/v1", api_key="none")',
        f"  curl:        curl {url}/v1/chat/completions -d '{_QUESTION}'",
        f"  Claude Code: ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=none ANTHROPIC_MODEL=default claude",
    ]


def down(
    context: typer.Context,
    *,
    wait_s: Annotated[float, wait_option("How long it may take to drain and stop.")] = 15.0,
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


def start_detached(home: Home, *, wait_s: float, verbose: bool = False, attached: bool = False) -> KernelStatus:
    """Start a kernel in a session of its own, its output in ``home.log``, and wait until it answers.

    One that is ``attached`` ends with this process, however that ends.

    Raises:
        ConfigError, AccessError, SwapPolicyError: if the home's configuration, access.toml or swap.toml is wrong.
        ByenatosError: if it ends before; with the last lines of its log.
        DeadlineExceeded: if it does not answer within ``wait_s`` seconds; it is stopped again, as after Ctrl-C.
    """
    from byenatos_kernel.access import read_access
    from byenatos_kernel.config import read_config, write_first_config
    from byenatos_kernel.shipped import access_file, swap_file
    from byenatos_kernel.swap_policy import read_swap_policy

    try:
        home.create()
        write_first_config(home.config)
        read_access(access_file(home))
        read_swap_policy(swap_file(home))
        read_config(home.config)  # what is wrong with it is said here rather than in the log
        with home.log.open("ab") as log:
            begin = log.tell()
            command = _command(home, verbose=verbose)
            pid = _spawn([*command, "--attached", str(os.getpid())] if attached else command, log.fileno())
    except OSError as error:
        raise ByenatosError(f"{home.path} cannot be used as a home: {error}") from None
    deadline = time.monotonic() + wait_s
    ended = None
    try:
        while ended in {None, _HELD_BY_ANOTHER} and time.monotonic() <= deadline:
            status = running_kernel(home)  # another one that is still starting is as good as ours
            if status is not None:
                return status
            time.sleep(_LOOK_EVERY_S)
            if ended is None and (found := os.waitpid(pid, os.WNOHANG)) != (0, 0):
                ended = os.waitstatus_to_exitcode(found[1])
    except KeyboardInterrupt:
        if ended is None:
            os.kill(pid, signal.SIGTERM)
        raise
    if ended is None:
        os.kill(pid, signal.SIGTERM)
    if ended in {None, _HELD_BY_ANOTHER}:
        raise DeadlineExceeded(f"the kernel does not answer after {wait_s:g} s; {_last_lines(home, begin)}")
    raise ByenatosError(f"the kernel ended at once, with exit code {ended}; {_last_lines(home, begin)}")


def _spawn(command: list[str], log: int) -> int:
    """Start a process that outlives this one, in a session of its own; return its id."""
    return os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
    )


def stop(home: Home, *, wait_s: float) -> int | None:
    """Stop the kernel of ``home``; return its process id once it is gone, or nothing if none was running.

    A kernel that does not answer, because it is starting or stuck, gets a SIGTERM.

    Raises:
        DeadlineExceeded: if it is still there after ``wait_s`` seconds.
    """
    from byenatos_sdk.client import Client, KernelNotRunning

    pid = _holder(home)
    if pid is None:
        return None
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        try:
            with Client(home) as client:
                client.shutdown()
        except KernelNotRunning:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        ready, _, _ = select.select([process], [], [], wait_s)  # a pidfd is readable once its process has ended
    except ProcessLookupError:
        return pid
    finally:
        os.close(process)
    if not ready:
        raise DeadlineExceeded(f"kernel {pid} is still there after {wait_s:g} s; wait (--wait), or: kill -9 {pid}")
    return pid


def _holder(home: Home) -> int | None:
    """Return the process id of the kernel that holds the lock of ``home``, or nothing if nobody does."""
    try:
        lock = os.open(home.lock, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ByenatosError(f"{home.lock}: whether a kernel runs cannot be told: {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.read(lock, 32).decode(errors="replace").strip()
        if not written.isdecimal():
            raise Unavailable(f"a kernel for {home.path} is just starting; run this again") from None
        return int(written)
    finally:
        os.close(lock)
    return None


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
