"""What one sandbox may touch: a frozen value that the kernel computes and :func:`~byenatos_sandbox.launch` enforces.

A grant is complete: what it does not name, the sandbox does not get. See ``launch.py`` for what holds a process to it.
"""

import math
import re
from pathlib import PurePath
from typing import Literal

from msgspec import Struct, field

from byenatos_sandbox.layers import KINDS, LAYERS
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["FIXED_VARIABLES", "Grant", "GrantError"]

FIXED_VARIABLES = frozenset(
    {"BYENATOS_ARENA", "HOME", "LANG", "LC_ALL", "LOGNAME", "OMP_NUM_THREADS", "PATH", "TMPDIR", "TZ", "USER"}
)
"""Environment variables that the sandbox sets itself; a grant may not name them."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAST_MEMORY_MIB = 64
_LEAST_OPEN_FILES = 16
_FEWEST_TASKS = 4


class GrantError(InvalidRequest):
    """A grant is not as it must be; the message names the grant, the field, what was expected and what was found."""


class Grant(Struct, frozen=True):
    """What one sandbox may touch.

    ``name`` stands in messages (``llamacpp/smollm2``). ``plugin`` is the folder of the driver's code, ``imports`` are
    further folders to import from, and ``files`` are the model files, all to read. A file is open in the process from
    the start and has no name there; a folder has its own name, and in the place of its descriptor is nothing.
    ``devices`` are device nodes, which are a way into their drivers in the system's kernel. ``memory_mib`` bounds
    private memory (0: no bound); mapped model files do not count. ``tasks`` bounds threads, ``processors`` CPU time (0:
    no bound), ``scratch_mib`` what is written. ``open_files`` bounds descriptors, those of ``files`` among them.
    ``writable_code`` allows memory that is written and executed, which libraries with closures or compilers need.

    ``arena_mib`` is the size of the memory that it shares with the launching process (0: none).

    ``instances`` is how many processes of the same kind share what is counted together (``open_nursery``).

    ``egress_socket`` lets it reach the broker by ``socket`` and ``connect`` (``seccomp.py``), for libraries that
    cannot be handed a stream.

    ``template`` is what the process is made from: ``one-shot``, a template of its own; ``shared``, the same one as
    others, whose address layout and hash seed it then shares; ``plain``, no clone at all, for systems that cannot.
    ``without`` names layers (:data:`LAYERS`) to leave out, for what cannot live inside them; whoever sets it says so.
    ``required`` are the kinds of isolation (:data:`KINDS`) without which the process must not run.

    ``environment`` holds the only variables beside the fixed ones. ``scratch_root`` is the folder in which the private
    scratch folder is made (empty: the temporary directory); a launching process that is killed may leave folders there,
    so name one that the next start may empty.

    Raises:
        GrantError: naming the field, what was expected and what was found.
    """

    name: str
    plugin: str = ""
    imports: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    memory_mib: int = 0
    threads: int = 1
    open_files: int = 256
    file_size_mib: int = 64
    scratch_mib: int = 64
    tasks: int = 128
    processors: float = 0.0
    instances: int = 1
    arena_mib: int = 0
    writable_code: bool = False
    egress_socket: bool = False
    template: Literal["one-shot", "shared", "plain"] = "one-shot"
    without: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    environment: dict[str, str] = field(default_factory=dict)
    output_lines: int = 40
    output_kib_per_s: int = 256
    stop_grace_s: float = 2.0
    scratch_root: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise GrantError("grant: name: expected a name for messages, found an empty one")
        self._check_paths()
        if self.memory_mib and self.memory_mib < _LEAST_MEMORY_MIB:
            raise self._error("memory_mib", f"0 (no bound) or at least {_LEAST_MEMORY_MIB}", self.memory_mib)
        for key, value, least in (
            ("threads", self.threads, 1),
            ("open_files", self.open_files, _LEAST_OPEN_FILES + len(self.files)),
            ("file_size_mib", self.file_size_mib, 1),
            ("scratch_mib", self.scratch_mib, 1),
            ("tasks", self.tasks, _FEWEST_TASKS),
            ("instances", self.instances, 1),
            ("arena_mib", self.arena_mib, 0),
            ("processors", self.processors, 0),
            ("output_lines", self.output_lines, 1),
            ("output_kib_per_s", self.output_kib_per_s, 1),
        ):
            if value < least:
                raise self._error(key, f"at least {least}", value)
        if not (math.isfinite(self.stop_grace_s) and self.stop_grace_s >= 0):
            raise self._error("stop_grace_s", "0 or more seconds", self.stop_grace_s)
        if unknown := self.without - frozenset(LAYERS):
            raise self._error("without", f"some of {', '.join(LAYERS)}", ", ".join(sorted(unknown)))
        if unknown := self.required - frozenset(KINDS):
            raise self._error("required", f"some of {', '.join(KINDS)}", ", ".join(sorted(unknown)))
        self._check_environment()

    def _check_paths(self) -> None:
        paths = [("plugin", self.plugin), ("scratch_root", self.scratch_root)]
        paths = [(key, path) for key, path in paths if path]
        paths += [("files", path) for path in self.files]
        paths += [("imports", path) for path in self.imports]
        paths += [("devices", path) for path in self.devices]
        for key, path in paths:
            # relative paths would change their meaning with the working directory of whoever launches
            if "\0" in path or not PurePath(path).is_absolute():
                raise self._error(key, "an absolute path", path)
            try:
                path.encode()
            except UnicodeEncodeError:
                raise self._error(key, "a path in UTF-8", path) from None

    def _check_environment(self) -> None:
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name):
                raise self._error("environment", "names of letters, digits and _", name)
            if name in FIXED_VARIABLES:
                raise self._error("environment", f"none of {', '.join(sorted(FIXED_VARIABLES))}, which are fixed", name)
            # these make the dynamic loader run other code before the sandbox locks itself in
            if name.startswith("LD_"):
                raise self._error("environment", "no variable of the dynamic loader", name)
            if "\0" in value:
                raise self._error("environment", f"a value without NUL for {name}", value)

    def _error(self, key: str, expected: str, found: object) -> GrantError:
        return GrantError(f"grant {self.name!r}: {key}: expected {expected}, found {found!r}")
