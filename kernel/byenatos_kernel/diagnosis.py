"""What ``byenatos doctor`` finds out: what this machine isolates drivers with, what is required, and how the home is.

Nothing here needs a running kernel, and nothing is changed. That a kind of isolation is there is not concluded from the
layers but seen in a sandbox that is made for it.
"""

import os
import platform
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct

from byenatos_kernel.access import Access, read_access
from byenatos_kernel.config import read_config
from byenatos_kernel.profiles import Profiles
from byenatos_kernel.shipped import shipped, swap_file
from byenatos_kernel.swap_policy import read_swap_policy
from byenatos_sandbox.checkup import Checkup, check_up
from byenatos_sandbox.lack import Lack
from byenatos_sandbox.layers import KINDS, LAYERS, Layer, lacks
from byenatos_sandbox.parts import PARTS, Part, missing_parts
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import read_manifest
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["Diagnosis", "HomeFinding", "KindFinding", "LayerFinding", "diagnose"]

_SHIPPED_PLUGINS = ("echo", "llamacpp")


class LayerFinding(Struct, frozen=True):
    """A layer, or a part of one; if it is missing, ``why``, what is lost (``loss``) and what changes it (``fix``)."""

    name: str
    words: str
    kinds: tuple[str, ...]
    ok: bool
    why: str = ""
    loss: str = ""
    fix: str = ""


class KindFinding(Struct, frozen=True):
    """A kind of isolation: whether drivers have it, whether they must, and what got through if they have not."""

    name: str
    isolated: bool
    required: bool
    got_through: str = ""


class HomeFinding(Struct, frozen=True):
    """A piece of the home: ``ok`` or not, what was found, and what changes it."""

    name: str
    ok: bool
    found: str
    fix: str = ""


class Diagnosis(Struct, frozen=True):
    """Everything. ``failure`` says why no sandbox could be made; then no kind counts as isolated."""

    machine: str
    layers: tuple[LayerFinding, ...]
    parts: tuple[LayerFinding, ...]
    kinds: tuple[KindFinding, ...]
    home: tuple[HomeFinding, ...]
    failure: str
    uncontained: bool
    drivers_start: bool

    @property
    def lacking(self) -> list[str]:
        """The required kinds that are not there."""
        return [kind.name for kind in self.kinds if kind.required and not kind.isolated]

    @property
    def healthy(self) -> bool:
        """Whether all is there that is required, and the home is as it must be."""
        return not self.failure and not self.lacking and all(one.ok for one in self.home)


async def diagnose(home: Home) -> Diagnosis:
    """Find everything out; makes one sandbox. Call it in the main thread."""
    checkup = await check_up()
    pieces, access = _look_at_home(home)
    required = access.isolation.required if access is not None else frozenset[str]()
    kinds = tuple(_kind(name, checkup, required=name in required) for name in KINDS)
    uncontained = access is not None and access.isolation.uncontained
    isolated = all(kind.isolated for kind in kinds if kind.required)
    return Diagnosis(
        machine=f"{platform.system()} {platform.release()} on {platform.machine()}, user {os.geteuid()}",
        layers=_layers(LAYERS, lacks()),
        parts=_layers(PARTS, missing_parts()),
        kinds=kinds,
        home=pieces,
        failure=checkup.failure,
        uncontained=uncontained,
        drivers_start=access is not None and not checkup.failure and (isolated or uncontained),
    )


def _layers(known: Mapping[str, Layer] | Mapping[str, Part], absent: Mapping[str, Lack]) -> tuple[LayerFinding, ...]:
    return tuple(
        LayerFinding(name, one.words, one.kinds, ok=False, why=absent[name].why, loss=one.loss, fix=absent[name].fix)
        if name in absent
        else LayerFinding(name, one.words, one.kinds, ok=True)
        for name, one in known.items()
    )


def _kind(name: str, checkup: Checkup, *, required: bool) -> KindFinding:
    got = checkup.failure and "no sandbox could be made"
    got = got or checkup.open.get(name, "")
    return KindFinding(name, isolated=not got, required=required, got_through=got)


# ---- the home ------------------------------------------------------------------------------------------------------


def _look_at_home(home: Home) -> tuple[tuple[HomeFinding, ...], Access | None]:
    """Return what was found, and the operator's file of grants if it can be read."""
    found = [_look_at_run(home)]
    if home.config.exists():
        found.append(_parse("config.json", home.config, partial(read_config, home.config)))
    rules = home.access if home.access.exists() else shipped("policies") / "access.toml"
    access: Access | None = None
    try:
        access = read_access(rules)
        found.append(HomeFinding("access.toml", ok=True, found=str(rules)))
    except ByenatosError as error:
        found.append(HomeFinding("access.toml", ok=False, found=error.message, fix=f"correct {rules}"))
    policy = swap_file(home)
    try:
        read_swap_policy(policy)
        found.append(HomeFinding("swap.toml", ok=True, found=str(policy)))
    except ByenatosError as error:
        found.append(HomeFinding("swap.toml", ok=False, found=error.message, fix=f"correct {policy}"))
    found += _look_at_profiles([home.policies / "sandbox", shipped("policies") / "sandbox"])
    found += _look_at_plugins()
    found += (_look_at_key(path.stem, path) for path in sorted(home.operator_key.parent.glob("*.key")))
    if access is not None:
        found += (
            _look_at_key(name, Path(source.file)) for name, source in access.secrets.items() if source.file is not None
        )
    return tuple(found), access


def _look_at_run(home: Home) -> HomeFinding:
    try:
        status = home.run.lstat()
    except FileNotFoundError:
        return HomeFinding("run", ok=True, found=f"{home.run} is made by the first `byenatos up`")
    except OSError as error:
        return HomeFinding("run", ok=False, found=f"{home.run}: {error.strerror}", fix=f"ls -ld {home.run}")
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return HomeFinding(
            "run",
            ok=False,
            found=f"{home.run}: expected a folder of user {os.getuid()}, found one of {status.st_uid}, or no folder",
            fix=f"mv {home.run} {home.run}.foreign",
        )
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        return HomeFinding(
            "run",
            ok=False,
            found=f"{home.run}: others may enter it ({mode:03o}), and whoever does may use the kernel",
            fix=f"chmod 700 {home.run}",
        )
    return HomeFinding("run", ok=True, found=f"{home.run}, for its owner only")


def _look_at_profiles(folders: list[Path]) -> Iterator[HomeFinding]:
    profiles = Profiles(folders)
    for name in sorted({path.stem for folder in folders for path in folder.glob("*.toml")}):
        path = next(folder / f"{name}.toml" for folder in folders if (folder / f"{name}.toml").exists())
        yield _parse(f"profile {name}", path, partial(profiles.find, name))


def _look_at_plugins() -> Iterator[HomeFinding]:
    for name in _SHIPPED_PLUGINS:
        folder = shipped("plugins") / name
        yield _parse(f"plugin {name}", folder, partial(read_manifest, folder))


def _look_at_key(name: str, path: Path) -> HomeFinding:
    """Look at what protects a key, and not at the key."""
    try:
        status = path.stat()
    except OSError as error:
        return HomeFinding(f"key {name}", ok=False, found=f"{path}: {error.strerror}", fix=f"install -m 600 KEY {path}")
    if mode := stat.S_IMODE(status.st_mode) & 0o177:
        return HomeFinding(
            f"key {name}",
            ok=False,
            found=f"{path}: expected mode 0600, found {mode | stat.S_IMODE(status.st_mode):04o}",
            fix=f"chmod 600 {path}",
        )
    return HomeFinding(f"key {name}", ok=True, found=f"{path}, for its owner only")


def _parse(name: str, path: Path, read: Callable[[], object]) -> HomeFinding:
    try:
        read()
    except ByenatosError as error:
        return HomeFinding(name, ok=False, found=error.message, fix=f"correct {path}")
    return HomeFinding(name, ok=True, found=str(path))
