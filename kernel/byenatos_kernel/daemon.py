"""The kernel's process: ``python -m byenatos_kernel.daemon --home PATH``.

It is kept free of everything that a kernel does not need while it runs (no command line library, no TLS), so that an
idle one stays below 30 MB. That is why the kernel itself is imported late.
"""

import fcntl
import getopt
import logging
import os
import resource
import signal
import sys
from contextlib import suppress

from byenatos_kernel.access import Access, AccessError, read_access
from byenatos_kernel.config import Config, ConfigError, read_config
from byenatos_kernel.log_lines import LogLines
from byenatos_kernel.shipped import access_file, swap_file
from byenatos_kernel.swap_policy import SwapPolicy, SwapPolicyError, read_swap_policy
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable

__all__ = ["ALREADY_RUNNING", "BAD_CONFIGURATION", "main"]

USAGE = """usage: python -m byenatos_kernel.daemon [--home PATH] [--verbose] [--attached PID]

Run a ByenatOS kernel in the foreground.

  --help          say this
  --home PATH     the kernel's folder (default: $BYENATOS_HOME or ~/.byenatos)
  --verbose       log debugging details as well
  --attached PID  end with this process, which starts it
"""
BAD_CONFIGURATION = 2
ALREADY_RUNNING = 3
_PR_SET_PDEATHSIG = 1
_BROKER = "BYENATOS_BROKER"
"""Tells a kernel that executed itself where the broker is that it started before."""

log = logging.getLogger("byenatos")


def _hold(home: Home) -> int:
    """Take the home's lock and write our pid into it; raises ``Unavailable`` if another kernel has it."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Unavailable(
            f"a kernel is already running for {home.path} (pid {pid}); use it, stop it with `byenatos down`, "
            "or choose another --home"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _empty_scratch(home: Home) -> None:
    """Make the folder of drivers' private folders, and remove what a kernel that was killed left there."""
    from byenatos_sandbox.scratch import remove

    home.scratch.mkdir(mode=0o700, exist_ok=True)
    for left in home.scratch.iterdir():
        with suppress(OSError):
            remove(left)


def _unusable(home: Home, error: Exception) -> int:
    sys.stderr.write(f"byenatos: {home.path} cannot be used as a home: {error}\n")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Run a kernel in the foreground; returns the exit status (0, 1, 2 bad configuration, 3 already running)."""
    try:
        options = _options(sys.argv[1:] if arguments is None else arguments)
    except getopt.GetoptError as error:
        sys.stderr.write(f"{USAGE}\nbyenatos: {error}\n")
        return BAD_CONFIGURATION
    if "--help" in options:
        sys.stdout.write(USAGE)
        return 0
    if "--attached" in options and not _attach(int(options["--attached"])):
        return 0
    output = logging.StreamHandler()
    output.setFormatter(LogLines())
    logging.basicConfig(level=logging.DEBUG if "--verbose" in options else logging.INFO, handlers=[output])
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    home = Home(options.get("--home"))
    try:
        home.create()
        config = read_config(home.config)
        access = read_access(access_file(home))
        policy = read_swap_policy(swap_file(home))
    except (AccessError, ConfigError, SwapPolicyError) as error:
        sys.stderr.write(f"byenatos: {error.message}\n")
        return BAD_CONFIGURATION
    except (OSError, ByenatosError) as error:
        return _unusable(home, error)
    try:
        _part_with_keys(access)
    except OSError as error:
        sys.stderr.write(f"byenatos: the egress broker cannot be started: {error}\n")
        return 1
    try:
        lock = _hold(home)
    except Unavailable as error:
        sys.stderr.write(f"byenatos: {error.message}\n")
        return ALREADY_RUNNING
    except OSError as error:
        return _unusable(home, error)
    _allow_descriptors()
    from byenatos_sandbox import cgroup, missing_layers

    cgroup.sweep()  # a kernel that was killed could not tidy up
    try:
        _empty_scratch(home)
    except OSError as error:
        return _unusable(home, error)
    for sentence in config.not_in_force():
        log.warning("%s: %s", home.config, sentence)
    for sentence in (*access.warnings(), *missing_layers()):
        log.warning("%s", sentence)
    try:
        _run(home, config, access, policy)
    except ByenatosError as error:
        sys.stderr.write(f"byenatos: {error.message}\n")
        return 1
    finally:
        os.close(lock)
    return 0


def _options(arguments: list[str]) -> dict[str, str]:
    """Read the command line, by the lightest of the standard library's modules for that.

    Raises:
        GetoptError: saying what is wrong with it.
    """
    options, rest = getopt.getopt(arguments, "", ["help", "home=", "verbose", "attached="])
    found = dict(options)
    if rest:
        raise getopt.GetoptError(f"expected options, found {rest[0]!r}")
    if not found.get("--attached", "1").isdecimal():
        raise getopt.GetoptError(f"--attached: expected a process id, found {found['--attached']!r}")
    return found


def _attach(parent: int) -> bool:
    """Have this process told to stop when ``parent`` ends; whether that is still there."""
    from byenatos_sandbox.linux import prctl

    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def _forgo() -> None:
    """Keep out what the standard library would load and a kernel never needs.

    asyncio and hmac load OpenSSL, 4 MB, and the kernel makes no outside connection; shutil loads two compressors, 0.6
    MB, and the kernel unpacks nothing.
    """
    for module in ("ssl", "_hashlib", "bz2", "lzma"):
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]


def _allow_descriptors() -> None:
    """Take as many descriptors as the system allows: each client, driver and file needs some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _part_with_keys(access: Access) -> None:
    """Hand the keys in the environment to the broker and begin anew without them, if there are any.

    Deleting a variable leaves its bytes in memory, where the program's environment was, and in whatever read it. A
    process that executes itself keeps nothing: the broker, its child, stays, and so do two sockets to it.
    """
    named = {source.environment for source in access.secrets.values() if source.environment is not None}
    keys = {name: os.environ[name] for name in named if name in os.environ}
    if not keys:
        return
    from byenatos_sandbox.broker import start_broker

    broker = start_broker(keys)
    left = {name: value for name, value in os.environ.items() if name not in keys}
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], left | {_BROKER: broker.hand_over()})  # noqa: S606 - our own interpreter


def _run(home: Home, config: Config, access: Access, policy: SwapPolicy) -> None:
    import asyncio

    from byenatos_kernel.kernel import Kernel
    from byenatos_sandbox.broker import Broker

    words = os.environ.pop(_BROKER, "")
    broker = Broker.take_over(words) if words else None

    async def serve() -> None:
        await Kernel(home, config, access, policy, broker).run()

    asyncio.run(serve())


if __name__ == "__main__":
    _forgo()
    sys.exit(main())
