"""The system calls of a sandbox: what an honest driver needs, and nothing else.

Four kinds of calls:

- **allowed**: what Python, numerical libraries and an event loop live on, with its arguments checked where they could
  reach out of the process (``ioctl``, ``prctl``, ``fcntl``, ``kill``, ``clone``, ``mmap`` and some more);
- **refused** (``EPERM``): what honest libraries try and do without: fork, exec, ``socket``, ``chmod``;
- **fatal**: what only an attack asks for: ``ptrace``, ``mount``, ``bpf``. The call is told to the launching process,
  which names it and kills (``tripwire.py``); where the system cannot tell, the process is killed by SIGSYS;
- **unknown** (``ENOSYS``): all others, those of later kernels included; the C library then takes an older way.

No process is started and no program executed (``clone`` makes threads only) and no socket opened: the channel and what
comes over it, and the arena where one is granted, are all there is. Memory is not both written and executed, unless the
grant says so: libraries that make machine code or closures at run time, such as libffi, need it. That hinders an
exploit of an honest driver; a hostile one has other ways to run code of its own in its own process, a library in its
scratch folder for one.

What honest libraries miss: ``shutil.copy`` and its kin end in ``PermissionError``, for they set modes and times
(``copyfile`` works), ``multiprocessing`` has no shared memory, and locks on files keep nobody out.

A grant may have the *egress socket*, for libraries that reach their vendor by a unix socket only. Neither ``socket``
nor ``connect`` is let through for that: ``socket`` for a unix stream is told to the launching process, which answers it
with a stream that is connected to the broker already (``outlet.py``), and ``connect`` to an address as long as the
agreed one succeeds and does nothing. So whatever is asked for, there is one place that it can lead to, and the system's
code behind both calls is not reached. The length is compared for the sake of honest libraries that look for other
sockets: they are refused, as they are anyway, and do not speak to the broker by mistake.

Signals and limits are bound to the process's own id, for where there is no namespace for process ids around it.

Source of the lists: measured with llama.cpp, numpy, httpx and two vendors' SDKs.
"""

import errno
import struct
from array import array
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Final

from byenatos_sandbox.bpf import ALLOW, KILL, TELL, Verdict, all_bits, dispatch, either, no_bits, not_equal, one_of
from byenatos_sandbox.bpf import errno as failing
from byenatos_sandbox.linux import MACHINE, system_call
from byenatos_sandbox.syscalls import AUDIT_ARCHITECTURES, NUMBERS

__all__ = ["EGRESS_SOCKET", "available", "install", "program"]

EGRESS_SOCKET: Final = "/run/egress.sock"
"""The address that leads to the broker, for libraries that need one; there is nothing at it."""


def _names(text: str) -> list[str]:
    return text.split()


_ALLOWED: Final = _names("""
    read write pread64 pwrite64 readv writev preadv pwritev pwritev2 lseek close close_range dup dup2
    dup3 stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir
    getdents64 ftruncate fallocate umask rename renameat renameat2 mkdir mkdirat
    rmdir unlink unlinkat statfs fstatfs munmap mremap brk mlock munlock mlock2 futex rt_sigaction
    rt_sigprocmask rt_sigreturn sigaltstack rt_sigtimedwait rt_sigpending rt_sigsuspend restart_syscall pause
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd
    eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4 pipe clock_gettime
    clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getitimer setitimer alarm
    timer_create timer_settime timer_gettime timer_delete timer_getoverrun getpid gettid getppid getuid geteuid
    getgid getegid getresuid getresgid getgroups getpgid getpgrp getsid getcpu capget sched_yield
    sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval getpriority getrlimit exit exit_group set_tid_address set_robust_list rseq membarrier
    getrandom sysinfo uname wait4 waitid shutdown getsockname getpeername accept accept4
""")

_FATAL: Final = _names("""
    ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd bpf perf_event_open userfaultfd keyctl add_key
    request_key mount umount2 pivot_root chroot setns unshare move_mount open_tree open_tree_attr fsopen
    fsconfig fsmount fspick mount_setattr init_module finit_module delete_module kexec_load kexec_file_load
    reboot swapon swapoff iopl ioperm modify_ldt open_by_handle_at quotactl quotactl_fd acct settimeofday
    clock_settime clock_adjtime adjtimex sethostname setdomainname syslog vhangup process_madvise move_pages
    migrate_pages fanotify_init fanotify_mark lookup_dcookie
""")

_REFUSED: Final = _names("""
    execve execveat fork vfork setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
    capset setsid setpgid ioprio_set sched_setparam sched_setattr sched_setaffinity chmod fchmod
    fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat setxattr lsetxattr
    fsetxattr setxattrat removexattr lremovexattr fremovexattr link linkat symlink symlinkat mknod mknodat
    connect bind listen socket personality seccomp memfd_create memfd_secret mlockall rt_sigqueueinfo
    rt_tgsigqueueinfo truncate
""")

_NO_ATTRIBUTES: Final = _names("getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr")

_EPERM: Final = failing(errno.EPERM)
_CLONE_THREAD_AND_MEMORY = 0x00010000 | 0x00000100
_CLONE_NEW = 0x7E020000 | 0x80
_CLONE_PARENT = 0x8000
_UNIX, _STREAM, _SEQUENCED = 1, 1, 5
_SOCKET_TYPE_FLAGS = 0o2000000 | 0o4000  # SOCK_CLOEXEC, SOCK_NONBLOCK
_WRITE_EXECUTE, _EXECUTE, _SHARED_ANONYMOUS = 2 | 4, 4, 0x01 | 0x20
_IOCTLS = [0x541B, 0x5421, 0x5451, 0x5450, 0x5401, 0x5413]  # FIONREAD FIONBIO FIOCLEX FIONCLEX TCGETS TIOCGWINSZ
_FCNTLS = [0, 1, 2, 3, 4, 5, 36, 1030, 1032, 1034]  # no owner, no signal and no lease of a descriptor
_LOCK, _LOCK_AND_WAIT, _DESCRIPTORS_LOCK, _DESCRIPTORS_LOCK_AND_WAIT = 6, 7, 37, 38
_PRCTLS = [15, 16, 0x53564D41, 3, 21, 23, 39]  # thread and memory names; what may be asked and changes nothing
_SOCKET_OPTIONS = [2, 7, 8, 9, 13, 20, 21]  # REUSEADDR SNDBUF RCVBUF KEEPALIVE LINGER RCVTIMEO SNDTIMEO
_ASKED_OF_SOCKETS = [*_SOCKET_OPTIONS, 3, 4, 17, 30, 38, 39]  # TYPE ERROR PEERCRED ACCEPTCONN PROTOCOL DOMAIN
_ODD_MESSAGES = 0x1 | 0x2000 | 0x20000000  # MSG_OOB, MSG_ERRQUEUE, MSG_FASTOPEN
_OF_FLAGS = {"sendto": 3, "recvfrom": 3, "sendmsg": 2, "recvmsg": 2, "sendmmsg": 3, "recvmmsg": 3}
"""The calls that send and receive, and which argument their flags are."""
_ARCHITECTURE_PRCTLS = [0x1002, 0x1003, 0x1021, 0x1022, 0x1023]  # thread-local storage; the use of AMX
_ACCESS, _NEITHER = 0o3, 0o3
_ACCESS_AND_TRUNCATE, _READ_AND_TRUNCATE = 0o3 | 0o1000, 0o1000
_LOWEST_PRIORITY = 19
_GROWS_DOWN, _HUGE_PAGES = 0x100, 0x40000
_LONG_AS_AGREED: Final = [2 + len(EGRESS_SOCKET), 2 + len(EGRESS_SOCKET) + 1]  # without and with the NUL behind it
_WITHOUT_WAITING, _MERGEABLE, _COLD, _PAGE_OUT = 8, 12, 20, 21  # RWF_NOWAIT, MADV_*
_NOT_NEEDED = 4  # POSIX_FADV_DONTNEED
_NOTIFICATION_PIPE = 0x80
_ALL_BITS = 0xFFFFFFFF

_OWN_PID = 0x7FFFFFFF  # a number that no process has

_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_NEW_LISTENER, _NOT_TAKEN_BACK = 1 << 3, 1 << 5  # the second is WAIT_KILLABLE_RECV of Linux 5.19


def program(
    pid: int,
    *,
    writable_code: bool,
    fatal: int = KILL,
    forks: bool = False,
    egress_socket: int | None = None,
    more: Mapping[str, Verdict] | None = None,
    machine: str = MACHINE,
) -> bytes:
    """Build the filter for the process ``pid`` on a machine (``x86_64`` or ``aarch64``); ``fatal`` is KILL or TELL.

    ``forks`` is for a template: it may fork, and its forks may lead a session and add a filter of their own.

    ``egress_socket`` is what becomes of ``socket`` for a unix stream, where the grant has one: TELL, or ALLOW in a fork
    whose template's filter tells.

    ``more`` are the verdicts, by name, in which another kind of process than a driver differs from one.

    Raises:
        KeyError: the machine is not known.
    """
    return _for_process(pid, _build(writable_code, fatal, forks, egress_socket, tuple((more or {}).items()), machine))


def _for_process(pid: int, built: bytes) -> bytes:
    """Put ``pid`` where :func:`_build`, which takes milliseconds, has left its place: instances have one each."""
    words = array("I", built)  # an instruction is two of them, the second one what is compared with
    for index in range(1, len(words), 2):
        if words[index] == _OWN_PID:
            words[index] = pid
    return words.tobytes()


@cache
def _build(
    writable_code: bool,  # noqa: FBT001 - positional, for the cache
    fatal: int,
    forks: bool,  # noqa: FBT001
    egress_socket: int | None,
    more: tuple[tuple[str, Verdict], ...],
    machine: str,
) -> bytes:
    rules: dict[str, Verdict] = dict.fromkeys(_ALLOWED, ALLOW)
    rules |= dict.fromkeys(_FATAL, fatal)
    rules |= dict.fromkeys(_REFUSED, _EPERM)
    rules |= dict.fromkeys(_NO_ATTRIBUTES, failing(errno.ENOTSUP))
    rules |= {
        # clone3 hides its flags in memory, where no filter sees them: it is unknown, and the C library takes clone
        "clone": all_bits(0, _CLONE_THREAD_AND_MEMORY, _EPERM, no_bits(0, _CLONE_NEW, _EPERM)),
        # a pair of datagram sockets may send to any path without connecting
        "socketpair": one_of(
            0,
            [_UNIX],
            failing(errno.EAFNOSUPPORT),
            one_of(1, _kinds(_STREAM, _SEQUENCED), failing(errno.EPROTONOSUPPORT)),
        ),
        # Landlock before its third version does not see that reading with this flag empties the file; and no version
        # asks about a file that is opened neither to read nor to write (both bits at once), which empties it as well
        "open": not_equal(1, _ACCESS, _NEITHER, _EPERM, not_equal(1, _ACCESS_AND_TRUNCATE, _READ_AND_TRUNCATE, _EPERM)),
        "openat": not_equal(
            2, _ACCESS, _NEITHER, _EPERM, not_equal(2, _ACCESS_AND_TRUNCATE, _READ_AND_TRUNCATE, _EPERM)
        ),
        # to read what needs no waiting is to learn what others have read, as by mincore
        "preadv2": no_bits(5, _WITHOUT_WAITING, failing(errno.EOPNOTSUPP)),
        # so is to have memory merged with equal memory of others; and to take from the memory what others read makes
        # them wait for it, and tells when they have read it again
        "madvise": _none_of(2, dict.fromkeys((_MERGEABLE, _COLD, _PAGE_OUT), failing(errno.EINVAL))),
        "fadvise64": _none_of(3, {_NOT_NEEDED: _EPERM}),
        # what a driver writes ends with it; for a library's file, which was not changed, each would flush the disk
        **dict.fromkeys(("fsync", "fdatasync", "msync"), failing(0)),
        "ioctl": one_of(1, _IOCTLS, failing(errno.ENOTTY)),
        # a lock on a file that others have open as well, be it a library's, is a way to tell them something: from a
        # driver that reads what it may not pass on to one that has a network. Locks on parts of files are memory of
        # the system's, too, that no limit counts. Nobody else is there to be kept out of what is a driver's own, so it
        # is said that they are held; those of a descriptor are unknown, as before Linux 3.15
        "flock": failing(0),
        "fcntl": _none_of(
            1,
            dict.fromkeys((_LOCK, _LOCK_AND_WAIT), failing(0))
            | dict.fromkeys((_DESCRIPTORS_LOCK, _DESCRIPTORS_LOCK_AND_WAIT), failing(errno.EINVAL)),
            one_of(1, _FCNTLS, _EPERM),
        ),
        "prctl": one_of(0, _PRCTLS, _EPERM),
        # what concerns another level than sockets is said to be done: a front's loop asks its connections not to wait
        # for more to send, which they have from the listening socket
        "setsockopt": one_of(1, [1], failing(0), one_of(2, _SOCKET_OPTIONS, failing(errno.ENOPROTOOPT))),
        # not who is at the other end: a descriptor of that process, and the groups that it is in
        "getsockopt": one_of(
            1, [1], failing(errno.ENOPROTOOPT), one_of(2, _ASKED_OF_SOCKETS, failing(errno.ENOPROTOOPT))
        ),
        # nobody sends out of turn, and the code for it has let others out of their sandboxes (CVE-2025-38236); the
        # first word of TCP connects, without connect: a front's listening socket, which is of the machine's own
        # network, would reach anybody by it once it is shut down
        **{name: no_bits(flags, _ODD_MESSAGES, failing(errno.EOPNOTSUPP)) for name, flags in _OF_FLAGS.items()},
        # the system would write to it, of keys and mounts (CVE-2022-0995)
        "pipe2": no_bits(1, _NOTIFICATION_PIPE, failing(errno.EINVAL)),
        # libzmq ends the process where it may not ask for the default: it is told that this was done
        "sched_setscheduler": one_of(1, [0], _EPERM, failing(0)),
        # a thread may step back, itself only and as far as possible: a model that is loaded in the background
        "setpriority": one_of(0, [0], _EPERM, one_of(1, [0], _EPERM, one_of(2, [_LOWEST_PRIORITY], _EPERM))),
        "prlimit64": one_of(0, [0, _OWN_PID], _EPERM),
        "kill": one_of(0, [_OWN_PID], _EPERM),
        "tgkill": one_of(0, [_OWN_PID], _EPERM),
        "arch_prctl": one_of(0, _ARCHITECTURE_PRCTLS, _EPERM),
        # shared anonymous memory is counted by no limit, nor is what grows like a stack; huge pages are others' stock
        "mmap": either(3, _SHARED_ANONYMOUS, _EPERM, no_bits(3, _GROWS_DOWN | _HUGE_PAGES, _EPERM)),
        "mprotect": ALLOW,
    }
    if not writable_code:
        rules["mmap"] = either(2, _WRITE_EXECUTE, _EPERM, rules["mmap"])
        rules["mprotect"] = no_bits(2, _EXECUTE, _EPERM)
    if forks:
        rules |= {
            "clone": no_bits(0, _CLONE_NEW | _CLONE_PARENT, _EPERM),
            "fork": ALLOW,
            "setsid": ALLOW,
            "seccomp": one_of(0, [_SET_MODE_FILTER], _EPERM, one_of(1, [0], _EPERM)),
        }
    if egress_socket is not None:
        rules |= {
            "socket": one_of(0, [_UNIX], _EPERM, one_of(1, _kinds(_STREAM), _EPERM, egress_socket)),
            "connect": one_of(2, _LONG_AS_AGREED, _EPERM, failing(0)),
        }
    rules |= dict(more)
    numbers = NUMBERS[machine]
    return dispatch(
        {numbers[name]: verdict for name, verdict in rules.items() if name in numbers},
        default=failing(errno.ENOSYS),
        architecture=AUDIT_ARCHITECTURES[machine],
        x32=machine == "x86_64",
    )


def _none_of(argument: int, refused: Mapping[int, int], then: Verdict = ALLOW) -> Verdict:
    """Check that an argument is none of some values, each of which has a verdict of its own."""
    for value, verdict in refused.items():
        then = not_equal(argument, _ALL_BITS, value, verdict, then)
    return then


def _kinds(*kinds: int) -> list[int]:
    """The types of sockets that are ``kinds``, with all flags that a type may carry."""
    return [kind | flags for kind in kinds for flags in _each(_SOCKET_TYPE_FLAGS)]


def _each(flags: int) -> list[int]:
    """All combinations of the bits in ``flags``."""
    found = [0]
    for bit in (1 << position for position in range(32)):
        if flags & bit:
            found += [one | bit for one in found]
    return found


def available() -> bool:
    """Whether this kernel filters system calls and this machine is one that the filter knows."""
    if MACHINE not in NUMBERS:
        return False
    try:
        system_call("seccomp", _GET_ACTION_AVAILABLE, 0, struct.pack("<I", KILL))
    except OSError:
        return False
    return True


def install(
    pid: int,
    *,
    writable_code: bool,
    forks: bool = False,
    tells: bool = True,
    egress_socket: bool = False,
    more: Mapping[str, Verdict] | None = None,
) -> int | None:
    """Bind the calling thread, and all that it starts, to its program, for good.

    Returns the descriptor on which fatal calls are told, and those for the ``egress_socket``; nothing without
    ``tells``, or where the system cannot tell: the process is killed at once then.

    Call it in a process with one thread that has set no_new_privs, as the last step: nothing can be added afterwards.

    Raises:
        OSError: the kernel refuses, or cannot tell of calls for the egress socket.
    """
    whole = partial(program, pid, writable_code=writable_code, forks=forks, more=more)
    if tells and egress_socket:
        # otherwise a signal takes back what was told, to be told again: as often as a timer ends
        with suppress(OSError):
            return _load(whole(fatal=TELL, egress_socket=TELL), _NEW_LISTENER | _NOT_TAKEN_BACK)
        return _load(whole(fatal=TELL, egress_socket=TELL), _NEW_LISTENER)
    if tells:
        with suppress(OSError):
            return _load(whole(fatal=TELL), _NEW_LISTENER)
    _load(whole(egress_socket=ALLOW if egress_socket else None), 0)
    return None


def _load(filter_program: bytes, flags: int) -> int:
    code = array("B", filter_program)
    header = struct.pack("@HP", len(filter_program) // 8, code.buffer_info()[0])
    return system_call("seccomp", _SET_MODE_FILTER, flags, header)
