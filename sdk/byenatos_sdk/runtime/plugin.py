"""Foreign code: finding a plugin's class, calling it, and turning what it raises into a failure that says so."""

import importlib
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, get_origin

import msgspec

from byenatos_sdk.driver import Driver
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Failure
from byenatos_sdk.runtime_config import RuntimeConfig

__all__ = ["checked", "cleaned", "failing_to", "import_driver"]

LONGEST_MESSAGE = 4000


class failing_to:  # noqa: N801 - used as a statement; a class, since every request enters one
    """Run a driver's code; what it raises is handed to ``report`` as a failure, after ``doing`` if that is given.

    An error of ``byenatos_sdk.protocol.errors`` is an answer and keeps its code. Anything else is a fault of the
    driver: it becomes ``internal`` with its type and message, and its traceback goes to stderr.
    """

    __slots__ = ("_doing", "_report")

    def __init__(self, report: Callable[[Failure], None], doing: str = "") -> None:
        self._report = report
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        prefix = f"{self._doing}: " if self._doing else ""
        if isinstance(error, ByenatosError):
            message = cleaned(f"{prefix}{error.message}"[:LONGEST_MESSAGE])
            after = error.retry_after_s
            self._report(Failure(error.code, message, float(after) if isinstance(after, int | float) else None))
        else:
            traceback.print_exception(error)
            said = f"{prefix}{type(error).__name__}: {error}{_hint(error)}"
            self._report(Failure("internal", cleaned(said[:LONGEST_MESSAGE])))
        return True


def _hint(error: Exception) -> str:
    """Say what an author may not know who meets ``error`` here and nowhere else."""
    if isinstance(error, ModuleNotFoundError):
        return "; packages of a driver's own lie in its vendor/, or are named in its requirements.lock"
    if isinstance(error, MemoryError):
        return "; [permissions] memory_mib of its plugin.toml bounds what a driver has, and its profile does"
    if isinstance(error, FileNotFoundError | PermissionError) and error.filename is not None:
        return "; a driver's process has its own files only; byenatos_sdk.files opens those that it was granted"
    if isinstance(error, PermissionError):
        return "; a driver's process starts no other and opens no socket; byenatos_sdk.egress reaches its vendor"
    return ""


def cleaned(text: str) -> str:
    """Replace half a surrogate pair, which is no character and cannot travel, by a question mark."""
    return text.encode("utf-8", "replace").decode()


def import_driver(config: RuntimeConfig) -> type[Driver]:
    """Import the plugin's entry: its folder comes first on the path, then its own packages, then everything else.

    Raises:
        TypeError: the entry names something that is not a driver.
        Exception: whatever the plugin's code raises.
    """
    own = (config.folder, *config.imports)
    sys.path[:] = [*own, *(place for place in sys.path if place not in own)]
    module, _, name = config.entry.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise TypeError(f"expected a class {name!r} in module {module!r} of {config.folder}, found none") from None
    if config.sockets:
        from byenatos_sdk.runtime.front import driver_of  # with a client, which a driver's process does without

        found = driver_of(found, config.sockets)
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise TypeError(f"expected {config.entry!r} to name a subclass of byenatos_sdk.Driver, found {found!r:.200}")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise TypeError(f"expected {config.entry!r} to define {', '.join(missing)}, found a class that does not")
    return found


def checked(value: object, kind: Any, source: str) -> bytes:
    """Encode what ``source``, a driver's method, returned, having made sure that the kernel will be able to read it.

    ``kind`` is a struct, or a list of one.

    Raises:
        TypeError: it is not a well-formed ``kind``.
    """
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    if not isinstance(value, get_origin(kind) or kind):
        raise TypeError(f"expected {source} to return a {name}, found {value!r:.200}")
    try:
        body = msgspec.msgpack.encode(value)
        msgspec.msgpack.decode(body, type=kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise TypeError(f"expected {source} to return a well-formed {name}: {error}") from None
    return body
