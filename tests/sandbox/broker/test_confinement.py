"""What the broker's server can still do once it has locked itself in, tried by a process that has."""

import errno
import json
import os
import socket
import subprocess
import sys

import pytest

from byenatos_sandbox.bpf import ALLOW, interpret
from byenatos_sandbox.bpf import errno as failing
from byenatos_sandbox.broker.confinement import NETWORK
from byenatos_sandbox.layers import missing
from byenatos_sandbox.seccomp import program
from byenatos_sandbox.syscalls import AUDIT_ARCHITECTURES, NUMBERS

EPERM = failing(errno.EPERM)
NO_FAMILY, NO_TYPE = failing(errno.EAFNOSUPPORT), failing(errno.EPROTONOSUPPORT)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("socket", (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC), ALLOW),
        ("socket", (socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK), ALLOW),
        ("socket", (socket.AF_INET, socket.SOCK_RAW), NO_TYPE),
        ("socket", (socket.AF_UNIX, socket.SOCK_STREAM), NO_FAMILY),
        ("socket", (socket.AF_NETLINK, socket.SOCK_RAW), NO_FAMILY),
        ("socket", (socket.AF_PACKET, socket.SOCK_RAW), NO_FAMILY),
        ("socket", (socket.AF_VSOCK, socket.SOCK_STREAM), NO_FAMILY),
        ("connect", (), ALLOW),
        ("bind", (), EPERM),
        ("listen", (), EPERM),
        ("execve", (), EPERM),
        ("clone", (17,), EPERM),
        ("setsockopt", (3, socket.IPPROTO_TCP, socket.TCP_NODELAY), ALLOW),
        ("setsockopt", (3, socket.SOL_SOCKET, 26), failing(errno.ENOPROTOOPT)),  # a filter of one's own
        ("setsockopt", (3, socket.IPPROTO_TCP, 31), failing(errno.ENOPROTOOPT)),  # another protocol above it
        ("mmap", (0, 4096, 6, 0x22), EPERM),
    ],
)
def test_the_filter_of_the_server(machine, name, arguments, verdict):
    filter_program = program(4242, writable_code=False, more=NETWORK, machine=machine)
    found = interpret(filter_program, NUMBERS[machine][name], arguments, architecture=AUDIT_ARCHITECTURES[machine])
    assert found == verdict


INSIDE = """
import errno, json, os, socket, sys, threading
from pathlib import Path
from byenatos_sandbox.broker import confinement, server
confinement.hide(os.getppid())
audit, allowed, denied = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
confinement.lock_in(audit, [allowed])
found = {}
def attempt(name, doing):
    try:
        doing()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
def connect(port):
    with socket.socket() as one:
        one.connect(("127.0.0.1", port))
attempt("connect to a granted port", lambda: connect(allowed))
attempt("connect to another port", lambda: connect(denied))
attempt("write to the audit", lambda: (audit / "x").write_text("x"))
attempt("write elsewhere", lambda: (audit.parent / "x").write_text("x"))
attempt("read elsewhere", lambda: (audit.parent / "secret").read_text())
attempt("read /proc", lambda: Path("/proc/self/environ").read_bytes())
attempt("run a program", lambda: os.execv("/bin/true", ["true"]))
attempt("fork", os.fork)
attempt("listen", lambda: socket.create_server(("127.0.0.1", 0)))
attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
attempt("look a name up", lambda: socket.getaddrinfo("localhost", 443))
in_a_thread = lambda: attempt("look a name up in a thread", lambda: socket.getaddrinfo("localhost", 1))
thread = threading.Thread(target=in_a_thread)
thread.start()
thread.join()
print(json.dumps(found))
"""


@pytest.mark.skipif(bool(missing()), reason="this machine has not all layers")
def test_what_the_server_can_and_cannot_do(tmp_path):
    audit = tmp_path / "audit"
    audit.mkdir()
    (tmp_path / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as granted, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(one.getsockname()[1]) for one in (granted, other)]
        command = [sys.executable, "-I", "-c", INSIDE, str(audit), *ports]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("connect to another port") == ("EACCES" if _knows_tcp() else "done")
    assert found == {
        "connect to a granted port": "done",
        "write to the audit": "done",
        "write elsewhere": "EACCES",
        "read elsewhere": "EACCES",
        "read /proc": "EACCES",
        "run a program": "EPERM",
        "fork": "EPERM",
        "listen": "EPERM",
        "unix socket": "EAFNOSUPPORT",
        "look a name up": "done",
        "look a name up in a thread": "done",
    }


def _knows_tcp():
    from byenatos_sandbox import landlock

    return landlock.abi() >= 4


def test_a_process_whose_parent_is_gone_does_not_hide(monkeypatch):
    command = [sys.executable, "-I", "-c", "from byenatos_sandbox.broker import confinement; confinement.hide(1 << 22)"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert b"ProcessLookupError" in done.stderr
    assert str(os.getpid()).encode() in done.stderr
