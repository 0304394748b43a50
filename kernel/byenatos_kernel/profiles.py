"""Read and check ``policies/sandbox/*.toml``: the most that a driver of some kind gets, whatever its manifest asks for.

A profile of the operator's own, in ``<home>/policies/sandbox``, takes the place of the shipped one of its name. All
keys must be there: what a file leaves out would be granted or denied by accident. ``local-model.toml`` explains them.
"""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from byenatos_kernel.toml_file import read_toml
from byenatos_sdk.manifest import Manifest
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["Profile", "ProfileError", "Profiles", "usual_profile"]

MAX_PROFILE = 64 << 10
_SHARE_OF_MEMORY = 0.75
_Number = Annotated[int, Meta(ge=0, le=1 << 24)]
_Positive = Annotated[int, Meta(ge=1, le=1 << 24)]


class ProfileError(InvalidRequest):
    """A profile is missing or not as it must be. The message names the file and key; correct it there."""


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """One profile; sizes in MiB, ``processors`` in processors, 0 for what ``local-model.toml`` says."""

    memory_mib: _Number
    threads: _Number
    tasks: Annotated[int, Meta(ge=4, le=1 << 20)]
    processors: Annotated[float, Meta(ge=0, le=4096)]
    open_files: Annotated[int, Meta(ge=16, le=1 << 20)]
    file_size_mib: _Positive
    scratch_mib: _Positive
    arena_mib: _Number
    model_files: bool
    writable_code: bool
    network: bool
    devices: bool

    def memory(self, asked_mib: int) -> int:
        """Private memory in MiB for a driver that asks for ``asked_mib`` (0: as much as it can get)."""
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        most = self.memory_mib or int(pages * size * _SHARE_OF_MEMORY) >> 20
        return min(asked_mib, most) if asked_mib else most

    def thread_count(self, asked: int) -> int:
        """How many threads a driver that asks for ``asked`` may compute with."""
        return min(asked, self.threads or len(os.sched_getaffinity(0)))


class Profiles:
    """The profiles of some folders, the first folder before the second."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    def find(self, name: str) -> Profile:
        """Read the profile ``name``, as it is now.

        Raises:
            ProfileError: there is none, or it is not as it must be.
        """
        for folder in self._folders:
            path = folder / f"{name}.toml"
            if path.exists():
                return read_toml(path, Profile, most=MAX_PROFILE, error=ProfileError)
        known = sorted({path.stem for folder in self._folders for path in folder.glob("*.toml")})
        raise ProfileError(f"expected one of the profiles {', '.join(known) or '(there is none)'}, found {name!r}")


def usual_profile(manifest: Manifest) -> str:
    """The profile of a plugin for which the operator names none, by what its manifest asks for."""
    if manifest.plugin.kind == "front":
        return "front"
    return "cloud-api" if manifest.egress else "local-model"
