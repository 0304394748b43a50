"""Parts of the operating system that no honest driver needs, each of which has had its holes."""

import ctypes
import os
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
