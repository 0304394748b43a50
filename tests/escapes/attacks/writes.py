"""Changing what is outside: files, their attributes, devices, the system's settings."""

import ctypes
import mmap
import os
import stat
from pathlib import Path

from attacks.registry import Stopped, attack, call, granted

_HERE, _EXCHANGE = -100, 2


@attack("private root", "landlock")
def writes_a_file_outside(prey):
    return Path(prey["folder"], "written").write_text("x")


@attack("private root", "landlock")
def changes_a_file_outside(prey):
    with Path(prey["victim"]).open("a") as file:
        return file.write("x")


@attack("private root", "landlock", "seccomp")
def empties_a_file_outside(prey):
    return os.truncate(prey["victim"], 0)


@attack("private root", "landlock", "seccomp")
def empties_a_file_that_it_may_read(prey):
    os.close(os.open(prey["granted"], os.O_RDONLY | os.O_TRUNC))
    return Path(prey["granted"]).stat().st_size == 0 and "emptied"


@attack("private root", "landlock", "seccomp")
def empties_a_file_that_it_opens_neither_to_read_nor_to_write(prey):
    return os.open(prey["victim"], os.O_WRONLY | os.O_RDWR | os.O_TRUNC)


@attack("private root", "landlock")
def writes_to_a_file_that_it_may_read(prey):
    return os.write(os.open(prey["granted"], os.O_WRONLY), b"x")


@attack("private root", "landlock")
def maps_a_file_outside_to_write_to_it(prey):
    with mmap.mmap(os.open(prey["victim"], os.O_RDWR), 0) as memory:
        memory[0] = 0
    return "written"


@attack("private root", "landlock")
def removes_a_file_outside(prey):
    return os.unlink(prey["victim"])


@attack("private root", "landlock")
def moves_a_file_out(prey):
    Path("mine").write_text("x")
    return os.rename("mine", Path(prey["folder"], "moved"))


@attack("private root", "landlock", needs="a file system that can exchange two files")
def exchanges_a_file_of_its_own_for_one_outside(prey):
    Path("mine").write_text("x")
    return call("renameat2", _HERE, b"mine", _HERE, os.fsencode(prey["victim"]), _EXCHANGE)


@attack("private root", "landlock", "seccomp")
def links_a_file_out(prey):
    Path("mine").write_text("x")
    return os.link("mine", Path(prey["folder"], "linked"))


@attack("private root", "landlock", "seccomp")
def makes_a_symbolic_link_outside(prey):
    return os.symlink("/", Path(prey["folder"], "symbolic"))


@attack("private root", "landlock", "seccomp")
def makes_a_pipe_outside(prey):
    return os.mkfifo(Path(prey["folder"], "pipe"))


@attack("private root", "landlock")
def makes_a_folder_outside(prey):
    return os.mkdir(Path(prey["folder"], "made"))


@attack("private root", "seccomp")
def makes_a_file_of_others_readable(prey):
    return os.chmod(prey["victim"], 0o777)


@attack("private root", "seccomp", needs="a system from Linux 6.6 on")
def makes_a_file_of_others_readable_by_a_newer_way(prey):
    return call("fchmodat2", _HERE, os.fsencode(prey["victim"]), 0o777, 0)


@attack("private root", "seccomp")
def gives_a_file_to_a_user(prey):
    return os.chown(prey["victim"], os.getuid(), os.getgid())


@attack("private root", "seccomp")
def gives_a_file_another_time(prey):
    return os.utime(prey["victim"], (0, 0))


@attack("private root", "seccomp", needs="a file system with extended attributes")
def marks_a_file_outside(prey):
    return os.setxattr(prey["victim"], "user.mark", b"x")


@attack("seccomp", "process", needs="it takes CAP_MKNOD, which no driver's process has")
def makes_a_device(prey):
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    return os.open("disk", os.O_RDONLY)


@attack("seccomp")
def makes_a_file_that_runs_as_its_owner(prey):
    Path("setuid").write_bytes(b"")
    os.chmod("setuid", 0o4755)
    return stat.S_IMODE(os.stat("setuid").st_mode) == 0o4755 and "set-uid"


@attack("private root", "landlock", needs="only who installed the interpreter may")
def poisons_the_interpreter(prey):
    place = Path(os.__file__).with_name("sitecustomize_by_attack.py")
    place.write_text("x")
    return place.unlink()


@attack("private root", "landlock", needs="only who installed the driver may")
def poisons_its_own_plugin(prey):
    place = Path(__file__).with_name("planted.py")
    place.write_text("x")
    return place.unlink()


@attack("private root", "landlock", needs="a system with shared memory")
def opens_shared_memory(prey):
    return os.open("/dev/shm/byenatos-attack", os.O_RDWR | os.O_CREAT) and os.unlink("/dev/shm/byenatos-attack")


@attack("private root", "landlock", needs="containers may have none")
def makes_a_terminal(prey):
    return os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)


@attack("private root", "landlock", needs="only root may")
def writes_to_the_log_of_the_system(prey):
    return os.open("/dev/kmsg", os.O_WRONLY)


@attack("private root", "landlock", needs="there may be no virtual machines here, or only root may")
def opens_the_virtual_machines(prey):
    return os.open("/dev/kvm", os.O_RDWR)


@attack("private root", "landlock", needs="there may be no FUSE here, or only root may")
def opens_the_file_systems_of_users(prey):
    return os.open("/dev/fuse", os.O_RDWR)


@attack("private root", "landlock", needs="only root may")
def opens_the_settings_of_the_system(prey):
    return os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@attack("private root", "landlock", needs="a process that is not dumpable belongs to root in /proc")
def asks_to_be_spared_when_memory_runs_out(prey):
    place = Path("/proc/self/oom_score_adj")
    return place.write_text(place.read_text())


@attack("private root", "landlock", needs="only root may")
def moves_to_another_control_group(prey):
    for folder, _, names in os.walk("/sys/fs/cgroup"):
        if "cgroup.procs" in names:
            return os.open(f"{folder}/cgroup.procs", os.O_WRONLY)
    raise Stopped("no control groups")


@attack("seccomp", needs="a file system that is not in memory")
def changes_the_flags_of_a_file(prey):
    flags = ctypes.c_long(0)
    descriptor = granted(prey)
    call("ioctl", descriptor, 0x80086601, ctypes.byref(flags))  # FS_IOC_GETFLAGS
    flags.value |= 0x80  # FS_NOATIME_FL
    return call("ioctl", descriptor, 0x40086602, ctypes.byref(flags))  # FS_IOC_SETFLAGS
