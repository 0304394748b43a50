"""What the kernel tells a driver process about itself, before the first frame.

It travels as opaque bytes through the sandbox, on a descriptor that the child inherits: the token is never in an
argument list or an environment.
"""

import msgspec

from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.messages import Value

__all__ = ["PreloadConfig", "RuntimeConfig", "decode_config", "decode_preload", "encode_config"]


class RuntimeConfig(Value, frozen=True):
    """The ``config`` of :func:`byenatos_sdk.runtime.run`.

    ``token`` proves once that the process is the one that was started. ``driver`` and ``version`` are the manifest's id
    and version, ``folder`` is the plugin folder, ``entry`` its ``module:Class``. A beat is sent every ``heartbeat_s``
    seconds. ``files`` are the granted files, in the order of their descriptors (``files.py``), ``sockets`` is how many
    are handed over behind them (``front.py``). ``imports`` are folders with packages of the driver's own.
    """

    token: str
    driver: str
    version: str
    folder: str
    entry: str
    heartbeat_s: float = 0.1
    files: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    sockets: int = 0


class PreloadConfig(Value, frozen=True):
    """The argument of :func:`byenatos_sdk.runtime.preload`: a driver, without a token, and what it is to load."""

    runtime: RuntimeConfig
    order: LoadOrder


encode_config = msgspec.msgpack.Encoder().encode
"""Encode a :class:`RuntimeConfig` or a :class:`PreloadConfig` to the bytes that ``run`` or ``preload`` takes."""

decode_config = msgspec.msgpack.Decoder(RuntimeConfig).decode
decode_preload = msgspec.msgpack.Decoder(PreloadConfig).decode
