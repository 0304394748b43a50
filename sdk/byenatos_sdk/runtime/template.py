"""What a sandboxed template has loaded for the driver processes that are forked from it.

The template calls :func:`preload` once; whoever is forked from it finds the outcome in its memory, by
:func:`preloaded`. A driver that cannot preload costs nothing but the sharing: its processes load the model themselves,
and it is their errors that are reported.
"""

import sys
from pathlib import Path

from msgspec import Struct

from byenatos_sdk import files
from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.messages import Failure
from byenatos_sdk.runtime.plugin import failing_to, import_driver
from byenatos_sdk.runtime_config import decode_preload

__all__ = ["preload", "preloaded"]


class _Loaded(Struct):
    """What was loaded, and on what order."""

    order: LoadOrder | None = None
    content: object = None


_loaded = _Loaded()


def preload(config: bytes) -> None:
    """Import the driver that ``config`` (a ``PreloadConfig``) names and have it load a model; print its errors."""

    def complain(failure: Failure) -> None:
        sys.stderr.write(f"runtime: {failure.message}\n")

    wanted = decode_preload(config)
    order = wanted.order
    files.grant(wanted.runtime.files)
    with failing_to(complain, f"driver {wanted.runtime.driver!r} cannot preload {order.model!r}"):
        driver = import_driver(wanted.runtime)
        path = Path(order.path) if order.path else None
        _loaded.content = driver.preload(
            Model(order.model, path, order.settings, digest=order.digest, files=order.files)
        )
        _loaded.order = order


def preloaded(order: LoadOrder) -> object:
    """Return what was loaded on the very same ``order``, ``None`` if nothing was."""
    return _loaded.content if _loaded.order == order else None
