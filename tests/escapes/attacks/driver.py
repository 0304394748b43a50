"""Makes one attack, as a driver in a sandbox or in a plain process."""

import contextlib
import importlib
import json
import os
import socket
import time

from attacks.registry import ATTACKS, Prey, answer_for_ever

__all__ = ["make", "run"]


def run(channel: int, config: bytes) -> None:
    """Be a driver that makes one attack and says what came of it."""
    orders = json.loads(config)
    with socket.socket(fileno=channel) as listener:
        kernel, _ = listener.accept()
    importlib.import_module(f"attacks.{orders['category']}")  # the others would take longer than most attacks
    make(orders["attack"], orders["prey"], kernel)


def make(name: str, prey: Prey, kernel: socket.socket) -> None:
    """Make one attack; ``kernel`` is the way to whoever wants to know."""
    one = ATTACKS[name]
    prey["wire"] = kernel.fileno()
    prey["began"] = time.monotonic()
    kernel.sendall(b"alive\n")
    try:
        outcome = {"worked": repr(one.function(prey))}
    except OSError as error:
        outcome = {"failed": error.strerror or str(error)}
    except Exception as error:  # noqa: BLE001 - a mistake in an attack must not pass for a sandbox that holds
        outcome = {"broke": repr(error)}
    with contextlib.suppress(OSError):  # whoever was flooded may have closed it
        kernel.sendall(b"\n" + json.dumps(outcome).encode() + b"\n")
    if one.lasting and "worked" in outcome:
        answer_for_ever(kernel.fileno())
    os._exit(0)
