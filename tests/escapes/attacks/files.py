"""Reading what was not granted, and finding out that it is there."""

import ctypes
import mmap
import os
import stat
from pathlib import Path

from attacks.registry import Stopped, attack, call

_HERE = -100


@attack("private root", "landlock")
def reads_a_secret(prey):
    return Path(prey["secret"]).read_text()


@attack("private root", "landlock", "seccomp")
def reads_a_secret_through_a_link_in_its_scratch_folder(prey):
    Path("link").symlink_to(prey["secret"])
    return Path("link").read_text()


@attack("private root", "landlock")
def reads_a_secret_by_climbing_out_of_its_folder(prey):
    return Path("../" * 40 + str(prey["secret"])).read_text()


@attack("private root", "landlock", "seccomp")
def reads_a_secret_by_a_hard_link(prey):
    os.link(prey["secret"], "hard")
    return Path("hard").read_text()


@attack("private root", "landlock")
def reads_a_secret_beside_a_granted_file(prey):
    return Path(prey["granted"], "..", "secret").resolve(strict=False).read_text()


@attack("private root", "landlock")
def reads_a_secret_from_a_folder_that_it_entered(prey):
    os.chdir(prey["folder"])
    return Path("secret").read_text()


@attack("private root", "landlock")
def reads_a_secret_by_a_descriptor_of_its_path(prey):
    descriptor = os.open(prey["secret"], os.O_PATH)
    return Path(f"/proc/self/fd/{descriptor}").read_text()


@attack("private root", "landlock", "seccomp")
def reads_a_secret_by_a_newer_way_to_open(prey):
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    return os.read(call("openat2", _HERE, os.fsencode(prey["secret"]), how, 24), 100)


@attack("private root", "seccomp", needs="it takes CAP_DAC_READ_SEARCH, which no driver's process has")
def opens_a_secret_by_its_handle(prey):
    handle = (ctypes.c_uint32 * 34)(128)
    call("name_to_handle_at", _HERE, os.fsencode(prey["secret"]), handle, ctypes.byref(ctypes.c_int()), 0)
    return os.read(call("open_by_handle_at", os.open("/", os.O_RDONLY), handle, os.O_RDONLY), 100)


@attack("private root", "landlock")
def maps_a_secret_into_memory(prey):
    descriptor = os.open(prey["secret"], os.O_RDONLY)
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)[:]


@attack("private root", "landlock")
def reads_what_another_driver_wrote(prey):
    return Path(prey["neighbour"]).read_text()


@attack("private root", "landlock")
def lists_a_foreign_folder(prey):
    return os.listdir(prey["neighbours_folder"])


@attack("private root", "seccomp")
def watches_a_foreign_folder(prey):
    return call("inotify_add_watch", call("inotify_init1", 0), os.fsencode(prey["neighbours_folder"]), 0x00000FFF)


@attack("private root")
def learns_that_a_secret_exists(prey):
    return os.access(prey["secret"], os.F_OK) or _nothing("no such file")


@attack("private root")
def learns_how_large_a_secret_is(prey):
    return os.stat(prey["secret"]).st_size


@attack("private root")
def learns_where_a_foreign_link_leads(prey):
    return os.readlink(prey["link"])


@attack("private root")
def stands_in_a_foreign_folder(prey):
    os.chdir(prey["neighbours_folder"])
    return os.getcwd()


@attack("private root")
def learns_how_full_the_disk_is(prey):
    return os.statvfs(prey["neighbours_folder"]).f_bavail


@attack("private root", "landlock")
def reads_the_list_of_users(prey):
    return Path("/etc/passwd").read_text()[:20]


@attack("private root", "seccomp")
def holds_a_secret_without_reading_or_writing(prey):
    return os.open(prey["secret"], os.O_WRONLY | os.O_RDWR)  # both bits: for ioctl only, says the manual


@attack("private root")
def holds_a_secret_by_its_path(prey):
    return os.open(prey["secret"], os.O_PATH)


@attack("private root", "landlock", needs="only root, or root without capabilities as the file's owner, may read it")
def reads_the_passwords_of_users(prey):
    return Path("/etc/shadow").read_bytes()[:4]


@attack("private root", "landlock", needs="only one who is root or in the disk's group may, and there may be no disk")
def reads_the_disk_below_the_files(prey):
    for name in os.listdir("/dev"):
        if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode):
            return os.read(os.open(f"/dev/{name}", os.O_RDONLY), 16)
    return _nothing("no disk")


@attack("private root", "landlock", needs="a process that is not dumpable hides it from all but root")
def reads_the_environment_of_the_kernel(prey):
    return Path(f"/proc/{prey['pid']}/environ").read_bytes()[:20]


@attack("private root", "landlock", needs="a process that is not dumpable hides it from all but root")
def reads_a_secret_through_the_root_of_the_kernel(prey):
    return Path(f"/proc/{prey['pid']}/root{prey['secret']}").read_text()


@attack("private root", "landlock", needs="a process that is not dumpable hides it from all but root")
def reads_a_secret_through_a_descriptor_of_the_kernel(prey):
    return Path(f"/proc/{prey['pid']}/fd/{prey['descriptor']}").read_text()


@attack("private root", "landlock")
def lists_processes(prey):
    return os.listdir("/proc")


@attack("private root", "landlock")
def reads_its_own_maps(prey):
    return Path("/proc/self/maps").read_text()[:20]


@attack("private root", "landlock", needs="containers hide it")
def reads_what_the_system_knows_of_its_devices(prey):
    return os.listdir("/sys/class")


@attack("private root", "landlock", needs="only root may, where kernel.dmesg_restrict is set")
def reads_the_log_of_the_system(prey):
    return os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)


def _nothing(why: str) -> object:
    raise Stopped(why)
