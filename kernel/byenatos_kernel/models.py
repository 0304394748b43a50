"""What the registry knows: plugin folders and models, as values that change in one place only."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from byenatos_kernel.folders import Stamp, whole_stamp
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.verdicts import Verdict
from byenatos_sdk.manifest import Manifest
from byenatos_sdk.protocol.control import ModelInfo, ModelState, PluginInfo, PluginState
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = ["ModelEntry", "Offer", "PluginEntry", "is_text", "printable"]


class PluginEntry:
    """A plugin folder, as it was last verified.

    ``path`` is the folder that the operator sees, ``stored`` the verified copy of it that drivers run from.
    ``manifest`` is that of the copy, and ``None`` when the plugin may not run (``reason`` says why); ``declared`` is
    the last that was good. ``imports`` are folders with packages of the driver's own. ``held`` says why the folder's
    own version does not run, where an earlier one does instead.
    """

    __slots__ = ("checking", "declared", "held", "id", "imports", "manifest", "path", "reason", "stored", "verdict")

    def __init__(
        self,
        id: str,
        path: Path,
        manifest: Manifest | None = None,
        reason: str = "",
        *,
        verdict: Verdict | None = None,
        stored: Path | None = None,
        imports: tuple[Path, ...] = (),
    ) -> None:
        self.id = id
        self.path = path
        self.manifest = self.declared = manifest
        self.reason = reason
        self.verdict = verdict or Verdict(printable(path), id, reason=reason)
        self.stored = stored or path
        self.imports = imports
        self.checking = False
        self.held = ""

    @property
    def digest(self) -> str:
        """The digest of the stored copy; empty if there is none."""
        return self.verdict.digest

    @property
    def info(self) -> PluginInfo:
        """The plugin as clients see it."""
        verdict = self.verdict
        plugin = self.manifest.plugin if self.manifest is not None else None
        state: PluginState = "checking" if self.checking else "refused" if plugin is None else "available"
        return PluginInfo(
            id=self.id,
            path=printable(self.path),
            kind=plugin.kind if plugin is not None else "",
            version=verdict.version,
            summary=plugin.summary if plugin is not None else "",
            state=state,
            reason=self.reason,
            publisher=verdict.publisher,
            key=verdict.key,
            digest=verdict.digest,
            unsigned=verdict.unsigned,
            held=self.held,
        )


class Offer(NamedTuple):
    """A model that a vendor offers, and when it was heard of, in seconds since the epoch."""

    specification: ModelSpecification
    at: float


class ModelEntry:
    """A model: a file that a driver took, or one that a plugin or the configuration declares (``path`` is ``None``).

    One that only its vendor's list names has ``offered_at``, the time at which it was heard of; else that is 0.

    ``file`` is that file, open and hashed, once it was judged to be a model, and ``further`` are those that its
    settings name, as they were then. ``declared`` is what the manifest says of
    it. ``settings`` go to the driver; ``max_tokens``, ``temperature``, ``timeout_s`` and ``strict`` are the operator's
    defaults.
    ``gap_timeout_s`` is for how long an answer may be silent (``None``: as ``gaps.py`` says, 0: for ever).
    ``journal`` is every how many tokens running answers are journaled (0: never).
    """

    __slots__ = (
        "declared",
        "driver",
        "file",
        "further",
        "gap_timeout_s",
        "id",
        "journal",
        "max_tokens",
        "offered_at",
        "path",
        "reason",
        "settings",
        "specification",
        "stamp",
        "state",
        "strict",
        "temperature",
        "timeout_s",
    )

    def __init__(self, id: str, driver: str, path: Path | None = None, *, state: ModelState = "available") -> None:
        self.id = id
        self.driver = driver
        self.path = path
        self.file: ModelFile | None = None
        self.further: dict[Path, Stamp | None] = {}
        self.state: ModelState = state
        self.reason = ""
        self.settings: dict[str, Any] = {}
        self.specification: ModelSpecification | None = None
        self.declared: ModelSpecification | None = None
        self.stamp: Stamp | None = None
        self.max_tokens: int | None = None
        self.strict = False
        self.temperature: float | None = None
        self.timeout_s: float | None = None
        self.gap_timeout_s: float | None = None
        self.journal = 0
        self.offered_at = 0.0

    def changed_file(self) -> Path | None:
        """Return the first of its further files that is another one than when the model was judged."""
        return next((path for path, stamp in self.further.items() if whole_stamp(path) != stamp), None)

    def offered_by(self, driver: str) -> bool:
        """Whether nobody but the vendor of ``driver`` speaks of it."""
        return bool(self.offered_at) and self.driver == driver

    def info(self, instances: int, slots: tuple[str, ...]) -> ModelInfo:
        """The model as clients see it."""
        return ModelInfo(
            self.id,
            self.driver,
            self.state,
            self.reason,
            printable(self.path or ""),
            self.specification or self.declared,
            instances,
            slots,
            self.offered_at,
        )


def printable(path: Path | str) -> str:
    """Return a path as text that can be sent and shown: bytes that are no UTF-8 appear by number."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_text(path: Path) -> bool:
    """Say whether a path is UTF-8, as everything that is sent must be."""
    return printable(path) == str(path)
