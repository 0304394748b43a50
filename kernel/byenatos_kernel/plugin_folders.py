"""The folders that plugins lie in, and what is known of each of them."""

from collections.abc import Iterable
from pathlib import Path

from byenatos_kernel.models import PluginEntry, printable
from byenatos_kernel.verdicts import Verdict

__all__ = ["PluginFolder", "plugin_folders", "strays", "touches"]


class PluginFolder:
    """A plugin folder: what it looks like, since when, as what it was verified, and the outcome."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp = ""
        self.since = 0.0
        self.verified = ""
        self.verdict: Verdict | None = None
        self.entry = PluginEntry(printable(path.name), path)
        self.entry.checking = True


def plugin_folders(parents: Iterable[Path]) -> list[Path]:
    """List the plugin folders in ``parents``, by parent and then by name; a parent that is not there has none."""
    return [folder for parent in parents for folder in _folders(parent) if (folder / "plugin.toml").exists()]


def strays(parent: Path) -> list[str]:
    """Say which folders in ``parent`` are no plugins, although somebody may think so."""
    found = []
    for folder in _folders(parent):
        if not (folder / "plugin.toml").exists():
            deeper = sorted(one.parent for one in folder.glob("*/plugin.toml"))
            moved = f"; is {printable(deeper[0])} what was meant? move it up" if deeper else ""
            found.append(f"{printable(folder)}: expected a plugin folder, found no plugin.toml in it{moved}")
    return found


def _folders(parent: Path) -> list[Path]:
    """List the folders in ``parent`` that are not hidden, by name; none if it is not there."""
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    except OSError:
        return []


def touches(changed: set[str] | None, folder: Path) -> bool:
    """Say whether one of the paths that changed is ``folder`` or below it; ``None``: all may have changed."""
    place = str(folder)
    return changed is None or any(path == place or path.startswith(f"{place}/") for path in changed)
