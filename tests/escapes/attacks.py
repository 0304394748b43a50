"""What a hostile driver would try, one function an attack; it runs inside a sandbox, and outside as the control.

An attack returns what it got if it worked and raises ``OSError`` (or dies) if it did not. ``prey`` names what it is
after: files and sockets that the test made outside, and the process that launched the sandbox.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

from byenatos_sandbox.linux import system_call

Prey = dict[str, object]


def run(channel: int, config: bytes) -> None:
    """Make one attack and say what came of it."""
    orders = json.loads(config)
    with socket.socket(fileno=channel) as listener:
        kernel, _ = listener.accept()
    kernel.sendall(b"alive\n")
    try:
        outcome = {"worked": repr(ATTACKS[orders["attack"]](orders["prey"]))}
    except OSError as error:
        outcome = {"failed": error.strerror or str(error)}
    kernel.sendall(json.dumps(outcome).encode() + b"\n")


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# ---- files -----------------------------------------------------------------------------------------------------


def reads_a_secret(prey):
    return Path(prey["secret"]).read_text()


def reads_a_secret_through_a_link_in_its_scratch_folder(prey):
    Path("link").symlink_to(prey["secret"])
    return Path("link").read_text()


def reads_a_secret_by_climbing_out_of_its_folder(prey):
    return Path("../" * 40 + str(prey["secret"])).read_text()


def reads_a_secret_by_a_hard_link(prey):
    os.link(prey["secret"], "hard")
    return Path("hard").read_text()


def maps_a_secret_into_memory(prey):
    descriptor = os.open(prey["secret"], os.O_RDONLY)
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)[:]


def lists_a_foreign_folder(prey):
    return os.listdir(prey["folder"])


def reads_the_list_of_users(prey):
    return Path("/etc/passwd").read_text()[:20]


def reads_the_environment_of_the_kernel(prey):
    return Path(f"/proc/{prey['pid']}/environ").read_bytes()[:20]


def lists_processes(prey):
    return os.listdir("/proc")


def reads_its_own_maps(prey):
    return Path("/proc/self/maps").read_text()[:20]


def writes_a_file_outside(prey):
    return Path(prey["folder"], "written").write_text("x")


def changes_a_file_outside(prey):
    with Path(prey["victim"]).open("a") as file:
        return file.write("x")


def empties_a_file_outside(prey):
    return os.truncate(prey["victim"], 0)


def empties_a_file_that_it_may_read(prey):
    os.close(os.open(prey["granted"], os.O_RDONLY | os.O_TRUNC))
    return Path(prey["granted"]).stat().st_size == 0 and "emptied"


def removes_a_file_outside(prey):
    return os.unlink(prey["victim"])


def moves_a_file_out(prey):
    Path("mine").write_text("x")
    return os.rename("mine", Path(prey["folder"], "moved"))


def makes_a_file_of_others_readable(prey):
    return os.chmod(prey["victim"], 0o777)


def gives_a_file_another_time(prey):
    return os.utime(prey["victim"], (0, 0))


def marks_a_file_outside(prey):
    return os.setxattr(prey["victim"], "user.mark", b"x")


def makes_a_folder_outside(prey):
    return os.mkdir(Path(prey["folder"], "made"))


def poisons_the_interpreter(prey):
    return (
        Path(os.__file__).with_name("sitecustomize_by_attack.py").write_text("x")
        and Path(os.__file__).with_name("sitecustomize_by_attack.py").unlink()
    )


def opens_shared_memory(prey):
    return os.open("/dev/shm/byenatos-attack", os.O_RDWR | os.O_CREAT) and os.unlink("/dev/shm/byenatos-attack")


def writes_to_the_terminal(prey):
    return os.open("/dev/ptmx", os.O_RDWR)


# ---- network and sockets ---------------------------------------------------------------------------------------


def connects_by_tcp(prey):
    return socket.create_connection(("127.0.0.1", prey["port"]))


def listens_by_tcp(prey):
    return socket.create_server(("127.0.0.1", 0))


def sends_by_udp(prey):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.sendto(b"x", ("127.0.0.1", prey["port"]))


def connects_to_a_socket_file(prey):
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect(prey["socket"])


def connects_to_an_abstract_socket(prey):
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect("\0" + prey["abstract"])


def sends_to_a_socket_file_through_a_pair(prey):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"x", prey["datagrams"])


def talks_netlink(prey):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


def opens_a_vsock(prey):
    return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)


# ---- programs and processes ------------------------------------------------------------------------------------


def runs_a_program(prey):
    return subprocess.run(["/bin/true"], check=True)


def becomes_a_program(prey):
    if os.fork() == 0:
        os.execv("/bin/true", ["true"])
    return os.wait()


def forks(prey):
    if os.fork() == 0:
        os._exit(0)
    return os.wait()


def leaves_its_group(prey):
    return os.setpgid(0, 0)


def runs_a_program_from_memory(prey):
    return os.memfd_create("program")


def signals_the_kernel(prey):
    return os.kill(prey["pid"], 0) or "signalled"


def stops_everybody(prey):
    return os.kill(-prey["group"], 0) or "signalled"


def signals_the_kernel_by_descriptor(prey):
    return signal.pidfd_send_signal(os.pidfd_open(prey["pid"]), 0) or "signalled"


def limits_the_kernel(prey):
    return resource.prlimit(prey["pid"], resource.RLIMIT_NOFILE)


def slows_the_kernel(prey):
    return os.setpriority(os.PRIO_PROCESS, prey["pid"], os.getpriority(os.PRIO_PROCESS, prey["pid"])) or "slowed"


def schedules_a_process_outside(prey):
    os.sched_setscheduler(prey["batch"], os.SCHED_OTHER, os.sched_param(0))
    if os.sched_getscheduler(prey["batch"]) != os.SCHED_OTHER:
        raise OSError("told that it was done, and it was not")
    return "scheduled"


def pins_the_kernel(prey):
    return os.sched_setaffinity(prey["pid"], os.sched_getaffinity(0)) or "pinned"


def reads_the_memory_of_the_kernel(prey):
    own = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(own), 8)
    remote = (ctypes.c_void_p * 2)(prey["address"], 8)
    return check(libc().process_vm_readv(prey["pid"], local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), 0))


def traces_the_kernel(prey):
    seize, detach = 0x4206, 17
    check(libc().ptrace(seize, prey["pid"], None, None))
    check(libc().ptrace(detach, prey["pid"], None, None))
    return "traced"


# ---- the surface of the operating system -----------------------------------------------------------------------


def makes_a_namespace(prey):
    return check(libc().unshare(0x10000000))  # CLONE_NEWUSER


def asks_for_io_uring(prey):
    return system_call("io_uring_setup", 4, bytes(120))


def loads_bpf(prey):
    return system_call("bpf", 0, bytes(128), 128)


def counts_performance_events(prey):
    return system_call("perf_event_open", bytes([1, 0, 0, 0, 128]) + bytes(123), 0, -1, -1, 0)


def keeps_a_key_in_the_system(prey):
    return system_call("add_key", b"user\0", b"byenatos-attack\0", b"x", 1, -2)


def handles_its_own_page_faults(prey):
    return system_call("userfaultfd", 1)


def makes_memory_for_all(prey):
    return check(libc().shmget(0, 4096, 0o1600))


def changes_its_personality(prey):
    return check(libc().personality(0x0040000))  # ADDR_NO_RANDOMIZE


def maps_memory_that_no_limit_counts(prey):
    return len(mmap.mmap(-1, 1 << 20))


def writes_and_runs_code(prey):
    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    return len(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=everything))


def becomes_dumpable(prey):
    return check(libc().prctl(4, 1, 0, 0, 0))


def outlives_its_parent(prey):
    return check(libc().prctl(1, 0, 0, 0, 0))


def raises_its_own_limit(prey):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft + 1, hard + 1))
    return "raised"


ATTACKS = {
    name: value
    for name, value in list(vars(sys.modules[__name__]).items())
    if callable(value)
    and getattr(value, "__module__", None) == __name__
    and name not in {"run", "libc", "check", "system_call"}
}
