"""Other processes: their lives, their memory, their descriptors, their share of the machine."""

import ctypes
import fcntl
import os
import resource
import signal

from attacks.registry import Stopped, attack, call, check, libc

_TRACE_SEIZE = 0x4206
_YAMA = "a Yama that lets processes trace those of their user"
_OF_ROOT = f"one who is root without capabilities may not with root that has them, and {_YAMA}"


@attack("namespaces", "landlock", "seccomp")
def signals_the_kernel(prey):
    return os.kill(prey["pid"], 0) or "signalled"


@attack("namespaces", "landlock", "seccomp")
def kills_another_driver(prey):
    return os.kill(prey["batch"], signal.SIGKILL) or "killed"


@attack("namespaces", "landlock", "seccomp")
def stops_everybody(prey):
    return os.kill(-prey["group"], 0) or "signalled"


@attack("namespaces", "landlock", "seccomp")
def signals_the_kernel_by_descriptor(prey):
    return signal.pidfd_send_signal(os.pidfd_open(prey["pid"]), 0) or "signalled"


@attack("namespaces", "landlock", "seccomp")
def signals_a_thread_of_the_kernel(prey):
    return call("tgkill", prey["pid"], prey["pid"], 0) or "signalled"


@attack("namespaces", "landlock", "seccomp")
def sends_a_signal_with_a_message(prey):
    information = (ctypes.c_int32 * 32)(0, 0, -1)
    return call("rt_sigqueueinfo", prey["batch"], 0, information) or "signalled"


@attack("namespaces", "seccomp")  # Landlock refuses when the signal is sent, which is not seen here
def has_the_system_signal_the_kernel(prey):
    ours, its = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETOWN, prey["batch"])
    fcntl.fcntl(ours, fcntl.F_SETSIG, int(signal.SIGWINCH))
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
    return os.write(its, b"x") and fcntl.fcntl(ours, fcntl.F_GETOWN)


@attack("namespaces", "seccomp", needs="one who is root without capabilities may not ask about root with them")
def limits_the_kernel(prey):
    return resource.prlimit(prey["pid"], resource.RLIMIT_NOFILE)


@attack("namespaces", "seccomp")
def limits_another_driver(prey):
    soft, hard = resource.prlimit(prey["batch"], resource.RLIMIT_NOFILE)
    resource.prlimit(prey["batch"], resource.RLIMIT_NOFILE, (soft, hard))
    return "limited"


@attack("namespaces", "seccomp")
def slows_the_kernel(prey):
    return os.setpriority(os.PRIO_PROCESS, prey["batch"], os.getpriority(os.PRIO_PROCESS, prey["batch"])) or "slowed"


@attack("namespaces", "seccomp")
def takes_the_disk_from_the_kernel(prey):
    return call("ioprio_set", 1, prey["batch"], 3 << 13) or "slowed"  # IOPRIO_CLASS_IDLE


@attack("namespaces", "seccomp", needs="it takes CAP_SYS_NICE where the other's policy is not ours to change")
def schedules_a_process_outside(prey):
    os.sched_setscheduler(prey["batch"], os.SCHED_OTHER, os.sched_param(0))
    if os.sched_getscheduler(prey["batch"]) != os.SCHED_OTHER:
        raise Stopped("told that it was done, and it was not")
    return "scheduled"


@attack("namespaces", "seccomp")
def pins_the_kernel(prey):
    return os.sched_setaffinity(prey["batch"], os.sched_getaffinity(prey["batch"])) or "pinned"


@attack("namespaces")
def asks_how_the_kernel_is_scheduled(prey):
    return os.sched_getaffinity(prey["pid"]), os.sched_getscheduler(prey["pid"])


@attack("namespaces")
def finds_processes_by_their_numbers(prey):
    return os.getsid(prey["batch"]), os.getpgid(prey["batch"])


@attack("namespaces", "landlock", "seccomp", needs=_OF_ROOT)
def reads_the_memory_of_the_kernel(prey):
    own = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(own), 8)
    remote = (ctypes.c_void_p * 2)(prey["address"], 8)
    return call("process_vm_readv", prey["pid"], local, 1, remote, 1, 0)


@attack("namespaces", "landlock", "seccomp", needs=_OF_ROOT)
def writes_to_the_memory_of_the_kernel(prey):
    own = ctypes.create_string_buffer(b"written")
    local = (ctypes.c_void_p * 2)(ctypes.addressof(own), 7)
    remote = (ctypes.c_void_p * 2)(prey["address"], 7)
    return call("process_vm_writev", prey["pid"], local, 1, remote, 1, 0)


@attack("private root", "landlock", needs=_OF_ROOT)
def opens_the_memory_of_the_kernel(prey):
    return os.pread(os.open(f"/proc/{prey['pid']}/mem", os.O_RDONLY), 6, prey["address"])


@attack("private root", "landlock", "process")
def writes_to_its_own_memory_as_a_file(prey):
    own = ctypes.create_string_buffer(b"before")
    memory = os.open("/proc/self/mem", os.O_RDWR)
    return os.pwrite(memory, b"behind", ctypes.addressof(own)) and own.value


@attack("namespaces", "landlock", "seccomp", needs=_OF_ROOT)
def traces_the_kernel(prey):
    return check(libc().ptrace(_TRACE_SEIZE, prey["pid"], None, None)) or "traced"


@attack("namespaces", "landlock", "seccomp", needs=_YAMA)
def traces_another_driver(prey):
    return check(libc().ptrace(_TRACE_SEIZE, prey["batch"], None, None)) or "traced"


@attack("namespaces", "landlock", "seccomp", needs=_OF_ROOT)
def takes_a_descriptor_of_the_kernel(prey):
    return os.read(call("pidfd_getfd", os.pidfd_open(prey["pid"]), prey["descriptor"], 0), 100)


@attack("namespaces", "landlock", "seccomp", needs=_YAMA)
def takes_a_descriptor_of_another_driver(prey):
    return call("pidfd_getfd", os.pidfd_open(prey["batch"]), 0, 0)


@attack("private root", "landlock", needs=_YAMA)
def opens_the_memory_of_another_driver(prey):
    return os.open(f"/proc/{prey['batch']}/mem", os.O_RDWR)


@attack("namespaces", "landlock", "seccomp", needs=_YAMA)
def compares_itself_with_another_driver(prey):
    return call("kcmp", os.getpid(), prey["batch"], 0, 0, 0)


@attack("namespaces", "landlock", "seccomp", needs=_YAMA)
def learns_where_the_locks_of_another_driver_are(prey):
    head, length = ctypes.c_void_p(), ctypes.c_size_t()
    return call("get_robust_list", prey["batch"], ctypes.byref(head), ctypes.byref(length))


@attack("namespaces", "seccomp", needs="it takes CAP_SYS_NICE, which no driver's process has")
def empties_the_memory_of_the_kernel(prey):
    range_ = (ctypes.c_void_p * 2)(prey["address"] & ~4095, 4096)
    return call("process_madvise", os.pidfd_open(prey["pid"]), range_, 1, 20, 0)  # MADV_COLD


@attack("namespaces", "landlock", "seccomp", needs="a system with more than one node of memory, and the same user")
def moves_the_memory_of_the_kernel(prey):
    return call("move_pages", prey["batch"], 0, None, None, None, 0) or "moved"
