"""How the broker's server locks itself in, once everything is imported and before it hears of a single driver.

It reads the interpreter's modules, the system's libraries, certificates and name service; writes in the audit's folder;
connects by TCP to the ports that the operator granted, to the proxies' and to 53, as far as Landlock knows of TCP; and
has the system calls of a driver, plus the sockets of the two internet families: no exec, no fork, no listening.
"""

import errno
import os
import resource
import signal
import ssl
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from byenatos_sandbox import capabilities, landlock, seccomp
from byenatos_sandbox.bpf import ALLOW, Verdict, one_of
from byenatos_sandbox.bpf import errno as failing
from byenatos_sandbox.landlock import READ, READ_DEVICE, READ_WRITE, Rule
from byenatos_sandbox.linux import prctl

__all__ = ["NETWORK", "hide", "lock_in"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_DNS = 53
MEMORY = 768 << 20
DESCRIPTORS = 4096

_INTERNET: Final = [2, 10]  # AF_INET, AF_INET6
_STREAM_OR_DATAGRAM: Final = [kind | flags for kind in (1, 2) for flags in (0, 0o4000, 0o2000000, 0o2004000)]
_LEVELS: Final = [0, 1, 6, 41]  # SOL_IP SOL_SOCKET SOL_TCP SOL_IPV6
_OPTIONS: Final = [
    1,
    2,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    13,
    20,
    21,
    25,
    83,
]  # NODELAY, keep-alives, RECVERR and those of a driver

NETWORK: Final[dict[str, Verdict]] = {
    "socket": one_of(
        0,
        _INTERNET,
        failing(errno.EAFNOSUPPORT),
        one_of(1, _STREAM_OR_DATAGRAM, failing(errno.EPROTONOSUPPORT)),
    ),
    "connect": ALLOW,
    "setsockopt": one_of(1, _LEVELS, failing(errno.ENOPROTOOPT), one_of(2, _OPTIONS, failing(errno.ENOPROTOOPT))),
}
"""In which the server differs from a driver, to :func:`byenatos_sandbox.seccomp.program`."""

_SYSTEM: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", f"{sys.base_prefix}/lib"),
    *("/etc/ld.so.cache", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf"),
    *("/run/systemd/resolve", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates"),
    *("/usr/local/share/ca-certificates", "/usr/share/zoneinfo", "/dev/urandom", "/dev/random"),
)


def hide(parent: int) -> None:
    """Die with ``parent``; have no core file, no one of this user look in, and nothing to gain by exec.

    Raises:
        OSError: the system refuses, or the parent is gone.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, f"expected the parent {parent}, found {os.getppid()}")
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    capabilities.drop()


def lock_in(audit: Path, ports: Iterable[int]) -> list[str]:
    """Confine the calling process, which has one thread, for good; say what this machine has not.

    Raises:
        OSError: the system refuses a layer that it has.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    absent = []
    if landlock.abi():
        landlock.restrict(_files(audit), [*ports, _DNS])
    else:
        absent.append("this kernel has no Landlock, or it is switched off: the broker's files are not isolated")
    if not seccomp.available():
        absent.append("this kernel does not filter system calls: the broker may make all of them")
    else:
        seccomp.install(os.getpid(), writable_code=False, tells=False, more=NETWORK)
    return absent


def _files(audit: Path) -> list[Rule]:
    certificates = ssl.get_default_verify_paths()
    more = [one for one in (certificates.cafile, certificates.capath) if one]
    rules = [Rule(path, READ) for path in (*_SYSTEM, *more, *sys.path)]
    # links out of the folders above (resolv.conf, the CA bundle) lead to what is meant by them
    rules += [Rule(os.path.realpath(path), READ) for path in (*_SYSTEM, *more) if Path(path).is_symlink()]
    return [*rules, Rule("/dev/null", READ_DEVICE), Rule(str(audit), READ_WRITE)]
