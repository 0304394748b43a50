"""A root file system of a sandbox's own: a small read-only one in memory that shows what was granted and nothing else.

Every granted path stands in it under its own name, bound read-only; symbolic links on the way to it are made anew, so
that an interpreter is found wherever it lives. There is no ``/proc``, no ``/sys`` and of ``/etc`` only what
``child.py`` names: the loader's cache and the types of files. The scratch folder is memory too, with a bound on its
size and on the number of its files, and nothing in it can be executed or mapped for execution. The driver's own code is
either bound like the rest or written, from bytes that were verified, into memory that only this sandbox sees and that
is read-only from then on.

The order: private mounts, so that nothing of this is seen outside; open every source before the new root covers one;
fill it; pivot; detach the old root; make the new one read-only. Source: ``mount_setattr(2)``, ``pivot_root(2)``.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable, Mapping

from msgspec import Struct

from byenatos_sandbox.linux import system_call

__all__ = ["DEVICES", "SCRATCH", "Root", "write_files"]

SCRATCH = "/scratch"
"""The scratch folder inside."""

DEVICES = ("/dev/null", "/dev/urandom", "/dev/random")
"""What every sandbox has of the devices. Not ``/dev/zero``: a shared mapping of it is memory that no limit counts."""

_PLACES = ("/tmp", "/mnt", "/var", "/usr")  # noqa: S108 - covered, not written to
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_ATTRIBUTE_READ_ONLY, _ATTRIBUTE_NOSUID, _ATTRIBUTE_NODEV, _ATTRIBUTE_NOEXEC = 1, 2, 4, 8
_OPEN_TREE_CLONE, _EMPTY_PATH, _TREE = 1, 0x1000, 0x8000
_HERE = -100
_MOVE_FROM_DESCRIPTOR = 4
_DETACH = 2
_DATA = _ATTRIBUTE_READ_ONLY | _ATTRIBUTE_NOSUID | _ATTRIBUTE_NODEV
_FILES_IN_ROOT, _FILES_IN_SCRATCH = 4096, 1024
_PAGE = 4096


class Root(Struct, frozen=True):
    """What to show.

    ``trees`` are folders and files with code that may be mapped for execution, ``data`` are files and folders without,
    ``devices`` are device nodes. ``code`` are the driver's files, by their path below ``folder``.
    """

    trees: tuple[str, ...]
    data: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    folder: str = ""
    code: Mapping[str, bytes] | None = None
    scratch_mib: int = 16

    def enter(self, owner: int, group: int) -> None:
        """Make it the root of this process, which has a mount namespace of its own; ``owner`` owns the scratch folder.

        Raises:
            OSError: the system refuses a step; the process must not go on then.
        """
        mount(None, "/", None, _PRIVATE | _RECURSIVE)
        shown = [(path, 0) for path in self.trees] + [(path, _ATTRIBUTE_NOEXEC) for path in self.data]
        places = _Places()
        try:
            for path, more in shown:
                places.add(path, _DATA | more)
            for path in (*DEVICES, *self.devices):
                places.add(path, _ATTRIBUTE_NOSUID | _ATTRIBUTE_NOEXEC, device=True)
            folder = places.resolve(self.folder) if self.code is not None else ""
            new = next(filter(os.path.isdir, _PLACES), None)
            if new is None:
                raise OSError(errno.ENOENT, f"root: expected one of the folders {', '.join(_PLACES)}, found none")
            mount("root", new, "tmpfs", _NOSUID | _NODEV, f"size=1m,nr_inodes={_FILES_IN_ROOT},mode=755")
            places.show(new)
            if self.code is not None:
                _write_code(f"{new}{folder}", self.code)
            os.mkdir(f"{new}{SCRATCH}")
            mount(
                "scratch",
                f"{new}{SCRATCH}",
                "tmpfs",
                _NOSUID | _NODEV | _NOEXEC,
                f"size={self.scratch_mib}m,nr_inodes={_FILES_IN_SCRATCH},mode=700,uid={owner},gid={group}",
            )
            os.chdir(new)
        finally:
            places.close()
        system_call("pivot_root", b".", b".")
        system_call("umount2", b".", _DETACH)
        os.chdir("/")
        _set_attributes(_HERE, "/", _DATA)


class _Places:
    """The sources, each opened under its real name, and the links that lead to them."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}

    def resolve(self, path: str) -> str:
        """Return the real name of ``path``, and make the links that lead to it with the others.

        Raises:
            OSError: there are too many of them.
        """
        real = _follow(path, self._links)
        if real is None:
            raise OSError(errno.ELOOP, f"{path}: {os.strerror(errno.ELOOP)}")
        return real

    def add(self, path: str, attributes: int, *, device: bool = False) -> None:
        """Open ``path``; one that does not exist is left out.

        Raises:
            OSError: it cannot be opened, or is no ``device`` although it must be: it would be there to be written.
        """
        real = _follow(path, self._links)
        if real is None or real == "/" or real in self._sources:
            return
        try:
            source = os.open(real, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return
        self._sources[real] = (source, attributes)
        if device and not stat.S_ISCHR(os.fstat(source).st_mode):
            raise OSError(errno.ENODEV, f"{path}: expected a character device, found something else")

    def close(self) -> None:
        """Close the sources."""
        for source, _ in self._sources.values():
            os.close(source)

    def show(self, root: str) -> None:
        """Bind every source below ``root``, those within another one by that other one, and make the links."""
        shown: list[str] = []
        for real in sorted(self._sources):
            source, attributes = self._sources[real]
            if _covered(real, shown):
                continue
            target = f"{root}{real}"
            if stat.S_ISDIR(os.fstat(source).st_mode):
                os.makedirs(target, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
            _bind(source, target, attributes)
            shown.append(real)
        for link, target_of_link in self._links.items():
            place = f"{root}{link}"
            if not _covered(link, shown) and not os.path.islink(place):
                os.makedirs(os.path.dirname(place), exist_ok=True)
                os.symlink(target_of_link, place)


def _covered(path: str, trees: Iterable[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)


def _follow(path: str, links: dict[str, str]) -> str | None:
    """Return the real name of an absolute path and note every symbolic link on the way; nothing if it leads nowhere."""
    steps = [step for step in reversed(path.split("/")) if step not in {"", "."}]
    real = ""
    followed = 0
    while steps:
        step = steps.pop()
        if step == "..":
            real = real.rpartition("/")[0]
            continue
        real = f"{real}/{step}"
        try:
            target = os.readlink(real)
        except OSError:
            continue  # no link; what does not exist is found out when it is opened
        followed += 1
        if followed > 40:
            return None
        links[real] = target
        real = "" if target.startswith("/") else real.rpartition("/")[0]
        steps += [step for step in reversed(target.split("/")) if step not in {"", "."}]
    return real or "/"


def _write_code(folder: str, code: Mapping[str, bytes]) -> None:
    pages = sum(len(data) // _PAGE + 1 for data in code.values())
    folders = {name[:end] for name in code for end in range(len(name)) if name[end] == "/"}
    os.makedirs(folder, exist_ok=True)
    size = (pages + len(folders) + 2) * _PAGE
    mount("code", folder, "tmpfs", _NOSUID | _NODEV, f"size={size},nr_inodes={len(code) + len(folders) + 9},mode=755")
    write_files(folder, code)
    _set_attributes(_HERE, folder, _DATA)


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Write ``files``, by their path below ``folder``.

    Raises:
        OSError: they cannot be written.
        ValueError: a name leads out of the folder.
    """
    for name, data in files.items():
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"expected the names of files below a folder, found {name!r}")
        target = f"{folder}/{name}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Call ``mount(2)``.

    Raises:
        OSError: the system refuses; the message names the target.
    """
    given = [text.encode() if text is not None else None for text in (source, target, kind)]
    try:
        system_call("mount", *given, flags, options.encode() or None)
    except OSError as error:
        raise OSError(error.errno, f"mount on {target}: {os.strerror(error.errno or 0)}") from None


def _bind(source: int, target: str, attributes: int) -> None:
    """Show an open source at ``target``, with its attributes set before it can be seen."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _EMPTY_PATH | _TREE
    tree = system_call("open_tree", source, b"", flags)
    try:
        _set_attributes(tree, "", attributes)
        system_call("move_mount", tree, b"", _HERE, target.encode(), _MOVE_FROM_DESCRIPTOR)
    finally:
        os.close(tree)


def _set_attributes(place: int, path: str, attributes: int) -> None:
    flags = 0 if path else _TREE | _EMPTY_PATH
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    system_call("mount_setattr", place, path.encode(), flags, wanted, len(wanted))
