"""Where ``byenatos`` starts: runs a command and turns what went wrong into one sentence and an honest exit code.

Exit codes: 0 done; 1 it failed; 2 wrong usage or configuration; 3 no kernel is running, or one is already; 130 Ctrl-C.
"""

import os
import signal
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_KERNEL = 3
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with ``arguments`` (default: those of the process) and return the exit code."""
    try:
        signal.signal(signal.SIGTERM, _leave)  # unwinds, so that a pull ends its pip and a chat its stream
        return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    # Imported here so that Ctrl-C during the imports, which take longest, ends without a traceback as well.
    from byenatos_kernel.cli.app import app
    from byenatos_kernel.cli.screen import complain, open_streams
    from byenatos_sdk.protocol.errors import ByenatosError

    open_streams()
    try:
        app(args=arguments, prog_name="byenatos")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else EXIT_FAILED if leaving.code else 0
    except ByenatosError as error:
        complain(error.message)
        return _exit_code(error)
    except OSError as error:  # the disk that is written to is full, for instance
        _give_up_output()
        complain(str(error))
        return EXIT_FAILED
    return 0


def _give_up_output() -> None:
    """Let what could not be printed go: else it is tried once more, and complained about, when Python ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _exit_code(error: Exception) -> int:
    from byenatos_kernel.access import AccessError
    from byenatos_kernel.config import ConfigError
    from byenatos_kernel.swap_policy import SwapPolicyError
    from byenatos_sdk.client import KernelNotRunning

    if isinstance(error, KernelNotRunning):
        return EXIT_KERNEL
    return EXIT_USAGE if isinstance(error, AccessError | ConfigError | SwapPolicyError) else EXIT_FAILED


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
