"""The control: makes each attack in a plain process, with no sandbox around it.

One process for all, which forks for each; it is to a sandbox what a careless launcher would be. It hands on its
environment and its descriptors, which is what a sandbox is protected from. But nobody's machine is to be hurt: those
forked have no capabilities, also when root runs the tests, and limits that no control comes near.
"""

import json
import os
import resource
import signal
import socket
import sys

import attacks.corpus  # all of them, once
import attacks.driver

from byenatos_sandbox import capabilities

_GIB = 1 << 30
_held: list[str] = []
"""What others were told: it stays in the memory that all are forked from."""


def main(control: socket.socket) -> None:
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not data:
            return
        order = json.loads(data)
        _held.append(order["hold"])
        [wire] = descriptors
        pid = os.fork()
        if pid == 0:
            _become(order, wire)
        os.close(wire)
        control.send(str(pid).encode())
        os.waitpid(pid, 0)
        control.send(b"ended")


def _become(order: dict, wire: int) -> None:
    try:
        os.setsid()
        os.chdir(order["scratch"])
        signal.alarm(60)
        for which, most in ((resource.RLIMIT_AS, 256 * _GIB), (resource.RLIMIT_FSIZE, _GIB)):
            resource.setrlimit(which, (most, most))
        capabilities.drop()
        attacks.driver.make(order["attack"], order["prey"], socket.socket(fileno=wire))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
