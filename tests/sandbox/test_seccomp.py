"""What the filter says of single calls, by its interpreter: nothing is installed here (``tests/escapes`` does that)."""

import errno
import socket

import pytest

from byenatos_sandbox.bpf import ALLOW, KILL, TELL, interpret
from byenatos_sandbox.bpf import errno as failing
from byenatos_sandbox.seccomp import EGRESS_SOCKET, program
from byenatos_sandbox.syscalls import AUDIT_ARCHITECTURES, NUMBERS

PID = 4242
EPERM, ENOSYS = failing(errno.EPERM), failing(errno.ENOSYS)
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_HUGETLB = 1, 2, 0x20, 0x100, 0x40000
THREAD = 0x3D0F00  # what the C library passes for a new thread

CALLS = [
    ("read", (), ALLOW),
    ("openat", (), ALLOW),
    ("clone", (THREAD,), ALLOW),
    ("clone", (17,), EPERM),
    ("clone", (THREAD | 0x10000000,), EPERM),
    ("clone3", (), ENOSYS),
    ("execve", (), EPERM),
    ("execveat", (), EPERM),
    ("socket", (socket.AF_INET,), EPERM),
    ("connect", (), EPERM),
    ("bind", (), EPERM),
    ("socketpair", (1, socket.SOCK_STREAM | socket.SOCK_CLOEXEC), ALLOW),
    ("socketpair", (1, socket.SOCK_SEQPACKET), ALLOW),
    ("socketpair", (1, socket.SOCK_DGRAM), failing(errno.EPROTONOSUPPORT)),
    ("socketpair", (2, socket.SOCK_STREAM), failing(errno.EAFNOSUPPORT)),
    ("kill", (PID,), ALLOW),
    ("kill", (0,), EPERM),
    ("kill", (-1,), EPERM),
    ("kill", (1,), EPERM),
    ("tgkill", (PID,), ALLOW),
    ("tgkill", (PID + 1,), EPERM),
    ("tkill", (PID,), ENOSYS),
    ("pidfd_send_signal", (), ENOSYS),
    ("prlimit64", (0,), ALLOW),
    ("prlimit64", (1,), EPERM),
    ("ioctl", (0, 0x5421), ALLOW),
    ("ioctl", (0, 0x5412), failing(errno.ENOTTY)),
    ("ioctl", (0, 0x100005412), failing(errno.ENOTTY)),
    ("prctl", (15,), ALLOW),
    ("prctl", (4,), EPERM),
    ("fcntl", (0, 3), ALLOW),
    ("fcntl", (0, 8), EPERM),
    ("mmap", (0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS), ALLOW),
    ("mmap", (0, 4096, 1, MAP_SHARED), ALLOW),
    ("mmap", (0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS), EPERM),
    ("mmap", (0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN), EPERM),
    ("mmap", (0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB), EPERM),
    ("chmod", (), EPERM if "chmod" in NUMBERS["x86_64"] else ENOSYS),
    ("fchmodat", (), EPERM),
    ("memfd_create", (), EPERM),
    ("truncate", (), EPERM),
    ("openat", (0, 0, 0o1000), EPERM),
    ("openat", (0, 0, 0o1000 | 0o2000000), EPERM),
    ("openat", (0, 0, 0o1000 | 0o101), ALLOW),
    ("openat", (0, 0, 0o2000000), ALLOW),
    ("open", (0, 0o1000), EPERM),
    ("openat", (0, 0, 0o3), EPERM),
    ("openat", (0, 0, 0o3 | 0o1000), EPERM),
    ("open", (0, 0o3 | 0o2000000), EPERM),
    ("preadv2", (0, 0, 0, 0, 0, 0), ALLOW),
    ("preadv2", (0, 0, 0, 0, 0, 8), failing(errno.EOPNOTSUPP)),
    ("madvise", (0, 4096, 4), ALLOW),
    ("madvise", (0, 4096, 12), failing(errno.EINVAL)),
    ("madvise", (0, 4096, 20), failing(errno.EINVAL)),
    ("madvise", (0, 4096, 21), failing(errno.EINVAL)),
    ("fadvise64", (5, 0, 0, 2), ALLOW),
    ("fadvise64", (5, 0, 0, 4), EPERM),
    ("fcntl", (5, 5), ALLOW),
    ("fcntl", (5, 6), failing(0)),
    ("fcntl", (5, 7), failing(0)),
    ("fcntl", (5, 37), failing(errno.EINVAL)),
    ("flock", (5, 2), failing(0)),
    ("fsync", (5,), failing(0)),
    ("fdatasync", (5,), failing(0)),
    ("msync", (0, 4096, 4), failing(0)),
    ("fcntl", (5, 1024), EPERM),
    ("fcntl", (5, 1031), EPERM),
    ("getsockopt", (3, 1, 4), ALLOW),
    ("getsockopt", (3, 1, 77), failing(errno.ENOPROTOOPT)),
    ("getsockopt", (3, 1, 59), failing(errno.ENOPROTOOPT)),
    ("getsockopt", (3, 0, 4), failing(errno.ENOPROTOOPT)),
    ("sendto", (3, 0, 1, 0x4000), ALLOW),
    ("sendto", (3, 0, 1, 1), failing(errno.EOPNOTSUPP)),
    ("sendmsg", (3, 0, 0x4001), failing(errno.EOPNOTSUPP)),
    ("sendto", (3, 0, 1, 0x20000000), failing(errno.EOPNOTSUPP)),
    ("sendmsg", (3, 0, 0x20000000), failing(errno.EOPNOTSUPP)),
    ("sendmmsg", (3, 0, 1, 0x20000000), failing(errno.EOPNOTSUPP)),
    ("recvmsg", (3, 0, 0x2000), failing(errno.EOPNOTSUPP)),
    ("recvfrom", (3, 0, 1, 1), failing(errno.EOPNOTSUPP)),
    ("recvmmsg", (3, 0, 1, 1), failing(errno.EOPNOTSUPP)),
    ("sendmmsg", (3, 0, 1, 1), failing(errno.EOPNOTSUPP)),
    ("pipe2", (0, 0o2000000), ALLOW),
    ("pipe2", (0, 0x80), failing(errno.EINVAL)),
    ("sched_setscheduler", (1, 0), failing(0)),
    ("sched_setscheduler", (0, 1), EPERM),
    ("setpriority", (0, 0, 19), ALLOW),
    ("setpriority", (0, 0, 18), EPERM),
    ("setpriority", (0, 0, -5), EPERM),
    ("setpriority", (0, PID, 19), EPERM),
    ("setpriority", (1, 0, 19), EPERM),
    ("setpriority", (2, 0, 19), EPERM),
    ("listxattr", (), failing(errno.ENOTSUP)),
    ("ptrace", (), KILL),
    ("mount", (), KILL),
    ("unshare", (), KILL),
    ("bpf", (), KILL),
    ("keyctl", (), KILL),
    ("bind", (), EPERM),
    ("listen", (), EPERM),
    ("io_uring_setup", (), ENOSYS),
    ("shmget", (), ENOSYS),
    ("mq_open", (), ENOSYS),
]


WITH_THE_EGRESS_SOCKET = [
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM), TELL),
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK), TELL),
    ("socket", (socket.AF_UNIX | 1 << 32, socket.SOCK_STREAM), TELL),  # the system takes 32 bits as well
    ("socket", (socket.AF_UNIX, socket.SOCK_DGRAM), EPERM),
    ("socket", (socket.AF_UNIX, socket.SOCK_SEQPACKET), EPERM),
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM | 1 << 20), EPERM),
    ("socket", (socket.AF_INET, socket.SOCK_STREAM), EPERM),
    ("socket", (socket.AF_NETLINK, socket.SOCK_RAW), EPERM),
    ("connect", (3, 0x1000, 2 + len(EGRESS_SOCKET)), failing(0)),
    ("connect", (3, 0x1000, 2 + len(EGRESS_SOCKET) + 1), failing(0)),
    ("connect", (3, 0x1000, 110), EPERM),
    ("connect", (3, 0x1000, 16), EPERM),
    ("bind", (), EPERM),
    ("listen", (), EPERM),
    ("socketpair", (1, socket.SOCK_DGRAM), failing(errno.EPROTONOSUPPORT)),
]


@pytest.mark.parametrize("machine", NUMBERS)
@pytest.mark.parametrize(("name", "arguments", "verdict"), WITH_THE_EGRESS_SOCKET)
def test_the_egress_socket_lets_no_socket_and_no_connection_through(machine, name, arguments, verdict):
    written = program(PID, writable_code=False, egress_socket=TELL, machine=machine)
    architecture = AUDIT_ARCHITECTURES[machine]
    assert interpret(written, NUMBERS[machine][name], arguments, architecture=architecture) == verdict


@pytest.mark.parametrize("machine", NUMBERS)
@pytest.mark.parametrize(("name", "arguments", "verdict"), CALLS)
def test_calls_get_their_verdict(machine, name, arguments, verdict):
    if name not in NUMBERS[machine]:
        pytest.skip(f"{machine} has no {name}")
    filtered = program(PID, writable_code=True, machine=machine)
    number, architecture = NUMBERS[machine][name], AUDIT_ARCHITECTURES[machine]
    assert interpret(filtered, number, arguments, architecture=architecture) == verdict


@pytest.mark.parametrize("machine", NUMBERS)
@pytest.mark.parametrize(
    ("name", "arguments", "strict"),
    [
        ("mmap", (0, 4096, 6, MAP_PRIVATE | MAP_ANONYMOUS), EPERM),
        ("mmap", (0, 4096, 5, MAP_PRIVATE), ALLOW),
        ("mmap", (0, 4096, 6, MAP_SHARED | MAP_ANONYMOUS), EPERM),
        ("mprotect", (0, 4096, 4), EPERM),
        ("mprotect", (0, 4096, 3), ALLOW),
    ],
)
def test_memory_is_not_written_and_executed_unless_it_is_granted(machine, name, arguments, strict):
    number, architecture = NUMBERS[machine][name], AUDIT_ARCHITECTURES[machine]
    filtered = program(PID, writable_code=False, machine=machine)
    assert interpret(filtered, number, arguments, architecture=architecture) == strict
    shared = arguments[3:] == (MAP_SHARED | MAP_ANONYMOUS,)
    granted = program(PID, writable_code=True, machine=machine)
    assert interpret(granted, number, arguments, architecture=architecture) == (EPERM if shared else ALLOW)


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_program_fits_the_kernel_and_calls_to_come_are_unknown(machine):
    filtered = program(PID, writable_code=False, machine=machine)
    assert len(filtered) // 8 <= 4096
    for number in range(471, 1000):
        assert interpret(filtered, number, architecture=AUDIT_ARCHITECTURES[machine]) == ENOSYS
