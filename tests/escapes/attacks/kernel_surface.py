"""Parts of the operating system that no honest driver needs, each of which has had its holes."""

import ctypes
import os
import signal
import struct

from attacks.registry import attack, call, check, granted, libc

_SWITCHED = "a system that has it and does not keep it for those with capabilities"


@attack("seccomp", needs=_SWITCHED)
def asks_for_io_uring(prey):
    return call("io_uring_setup", 4, ctypes.create_string_buffer(120))


@attack("seccomp")
def asks_for_older_asynchronous_input(prey):
    return call("io_setup", 4, ctypes.byref(ctypes.c_ulong(0)))


@attack("seccomp", needs=_SWITCHED)
def loads_bpf(prey):
    return call("bpf", 0, struct.pack("4I", 2, 4, 4, 1).ljust(128, b"\0"), 128)  # BPF_MAP_CREATE: an array


@attack("seccomp", needs=_SWITCHED)
def counts_performance_events(prey):
    attributes = struct.pack("IIQ", 1, 128, 0).ljust(40, b"\0") + struct.pack("Q", 1 << 5 | 1 << 6)
    return call("perf_event_open", attributes.ljust(128, b"\0"), 0, -1, -1, 0)


@attack("seccomp", needs=_SWITCHED)
def keeps_a_key_in_the_system(prey):
    return call("add_key", b"user", b"byenatos-attack", b"x", 1, -2)  # the process's own ring


@attack("seccomp", needs=_SWITCHED)
def reads_the_keys_of_its_user(prey):
    return call("keyctl", 0, -4, 0)  # KEYCTL_GET_KEYRING_ID of the user's ring


@attack("seccomp", needs="a system with a key of this name")
def asks_for_a_key_of_its_user(prey):
    return call("request_key", b"keyring", b"_uid.%d" % os.getuid(), None, 0)


@attack("seccomp", needs=_SWITCHED)
def handles_its_own_page_faults(prey):
    return call("userfaultfd", 1)


@attack("seccomp")
def makes_memory_for_all(prey):
    return libc().shmctl(check(libc().shmget(0, 4096, 0o1600)), 0, None)


@attack("seccomp")
def leaves_messages_for_others(prey):
    return libc().msgctl(check(libc().msgget(0, 0o1600)), 0, None)


@attack("seccomp")
def makes_semaphores_for_all(prey):
    return libc().semctl(check(libc().semget(0, 1, 0o1600)), 0, 0)


@attack("seccomp", "landlock", needs=_SWITCHED)
def opens_a_queue_for_all(prey):
    queue = call("mq_open", b"byenatos-attack", os.O_RDWR | os.O_CREAT, 0o600, None)
    call("mq_unlink", b"byenatos-attack")
    return queue


@attack("seccomp", needs="an x86 machine whose system has it")
def changes_its_segments(prey):
    return call("modify_ldt", 1, struct.pack("4I", 0, 0, 0, 0x28 | 0x10), 16)


@attack("seccomp", "process", needs="it takes CAP_SYS_RAWIO, which no driver's process has")
def talks_to_ports(prey):
    return call("ioperm", 0x80, 1, 1)


@attack("seccomp", "process", needs="it takes CAP_SYS_BOOT, which no driver's process has")
def replaces_the_system(prey):
    return call("kexec_load", 0, 0, None, 0)


@attack("seccomp", "process", needs="it takes CAP_SYS_MODULE, which no driver's process has")
def loads_a_module(prey):
    return call("init_module", b"", 0, b"")


@attack("seccomp", needs="only root may, where kernel.dmesg_restrict is set")
def reads_what_the_system_said(prey):
    return call("syslog", 10, None, 0)  # SYSLOG_ACTION_SIZE_BUFFER


@attack("seccomp", needs=_SWITCHED)
def watches_every_file(prey):
    return call("fanotify_init", 0x200, 0)  # FAN_REPORT_FID, which users may


@attack("seccomp", "process", needs="it takes CAP_SYS_TIME, which no driver's process has")
def sets_the_clock(prey):
    return call("clock_settime", 0, struct.pack("qq", 0, -1))  # never valid: at most an answer other than EPERM


@attack("seccomp", "process", needs="it takes CAP_SYS_PACCT, which no driver's process has")
def has_every_process_recorded(prey):
    return call("acct", b"")


@attack("seccomp", "process", needs="it takes CAP_SYS_ADMIN, and a disk to ask about")
def asks_for_quotas(prey):
    return call("quotactl", 0x800001 << 8, None, 0, None)


@attack("seccomp", needs=_SWITCHED)
def hides_memory_from_the_system(prey):
    return call("memfd_secret", 0)


@attack("seccomp")
def moves_pages_into_a_pipe(prey):
    _, its = os.pipe()
    page = ctypes.create_string_buffer(4096)
    return call("vmsplice", its, (ctypes.c_void_p * 2)(ctypes.addressof(page), 4096), 1, 0)


@attack("seccomp")
def moves_a_file_into_a_pipe(prey):
    _, its = os.pipe()
    return call("splice", granted(prey), None, its, None, 4, 0)


@attack("seccomp", needs="a machine with more than one node of memory, or a system that answers for one")
def chooses_where_its_memory_is(prey):
    return call("set_mempolicy", 0, None, 0)


@attack("seccomp")
def adds_a_filter_of_its_own(prey):
    program = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)  # allow all
    code = ctypes.create_string_buffer(program, 8)
    check(libc().prctl(38, 1, 0, 0, 0))
    return call("seccomp", 1, 0, struct.pack("HP", 1, ctypes.addressof(code)))


@attack("seccomp")
def becomes_the_judge_of_its_own_calls(prey):
    program = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(program, 8)
    check(libc().prctl(38, 1, 0, 0, 0))
    return call("seccomp", 1, 1 << 3, struct.pack("HP", 1, ctypes.addressof(code)))  # NEW_LISTENER


@attack("seccomp", needs="a processor that can")
def reads_the_counters_of_the_processor(prey):
    return check(libc().prctl(26, 1, 0, 0, 0))  # PR_SET_TSC


@attack("seccomp")
def has_its_calls_dispatched_by_itself(prey):
    selector = ctypes.c_char(b"\0")
    on = libc().prctl(59, 1, ctypes.c_ulong(0), ctypes.c_ulong(1 << 47), ctypes.byref(selector))
    check(on)  # PR_SET_SYSCALL_USER_DISPATCH
    return check(libc().prctl(59, 0, 0, 0, 0))


@attack("seccomp")
def outlives_a_call_that_is_fatal(prey):
    signal.signal(signal.SIGSYS, lambda *_: None)
    return call("ptrace", 0, 0, 0, 0) or "traced by its parent"  # PTRACE_TRACEME


@attack("seccomp", needs="a system from Linux 6.8 on")
def lists_mounts_by_a_newer_way(prey):
    request = struct.pack("IIQQ", 24, 0, 0xFFFFFFFFFFFFFFFF, 0)  # LSMT_ROOT
    return call("listmount", request, (ctypes.c_uint64 * 64)(), 64, 0) or "none"


@attack("seccomp", "process", needs="it takes CAP_WAKE_ALARM, which no driver's process has")
def wakes_the_machine(prey):
    return call("timerfd_create", 9, 0)  # CLOCK_BOOTTIME_ALARM


@attack("seccomp", needs="a system that can merge equal pages, from Linux 6.4 on")
def has_all_of_its_memory_merged(prey):
    return check(libc().prctl(67, 1, 0, 0, 0)) or "merged if it is equal"  # PR_SET_MEMORY_MERGE


@attack("seccomp", needs="a processor with two threads a core, and a system that can share them out")
def has_its_core_for_itself(prey):
    return check(libc().prctl(62, 1, 0, 0, 0)) or "nobody else's threads run beside it"  # PR_SCHED_CORE_CREATE


@attack("seccomp", needs="a processor whose protection can be switched")
def is_protected_less_against_speculation(prey):
    return check(libc().prctl(53, 0, 2, 0, 0)) or "less"  # PR_SET_SPECULATION_CTRL: stores may be bypassed
