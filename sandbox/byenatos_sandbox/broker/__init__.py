"""The egress broker: the only process that holds keys, and the only one that talks to the outside.

This package's face is what the kernel needs of it; the broker itself is started as a process (``__main__``) and imports
TLS and HTTP, which the kernel must not. See ``keeper.py`` for the processes and who trusts whom with what.
"""

from byenatos_sandbox.broker.messages import (
    AmendPort,
    ClosePort,
    Ended,
    Key,
    Listed,
    ListSecrets,
    OpenLine,
    OpenPort,
    Rule,
    SecretState,
    Serving,
    Settings,
    Source,
    decode_from_keeper,
    decode_from_server,
    encode,
)
from byenatos_sandbox.broker.start import Broker, start_broker

__all__ = [
    "AmendPort",
    "Broker",
    "ClosePort",
    "Ended",
    "Key",
    "ListSecrets",
    "Listed",
    "OpenLine",
    "OpenPort",
    "Rule",
    "SecretState",
    "Serving",
    "Settings",
    "Source",
    "decode_from_keeper",
    "decode_from_server",
    "encode",
    "start_broker",
]
