"""What the registry knows: plugin folders and models, as values that change in one place only."""

import os
from pathlib import Path
from typing import Any, Literal

from byenatos_sdk.manifest import Manifest
from byenatos_sdk.protocol.control import ModelInfo, ModelState, PluginInfo
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = ["ModelEntry", "PluginEntry", "printable"]


class PluginEntry:
    """A plugin folder; ``manifest`` is ``None`` when it is refused, and ``reason`` says why."""

    __slots__ = ("id", "manifest", "path", "reason")

    def __init__(self, id: str, path: Path, manifest: Manifest | None, reason: str = "") -> None:
        self.id = id
        self.path = path
        self.manifest = manifest
        self.reason = reason

    @property
    def info(self) -> PluginInfo:
        """The plugin as clients see it."""
        state: Literal["available", "refused"] = "available" if self.manifest else "refused"
        if self.manifest is None:
            return PluginInfo(self.id, printable(self.path), state=state, reason=self.reason)
        plugin = self.manifest.plugin
        return PluginInfo(
            self.id, printable(self.path), plugin.kind, plugin.version, plugin.summary, state, self.reason
        )


class ModelEntry:
    """A model: a file that a driver took, or one that a plugin or the configuration declares (``path`` is ``None``).

    ``settings`` go to the driver; ``max_tokens``, ``temperature`` and ``timeout_s`` are the operator's defaults.
    """

    __slots__ = (
        "driver",
        "id",
        "max_tokens",
        "path",
        "reason",
        "settings",
        "specification",
        "stamp",
        "state",
        "temperature",
        "timeout_s",
    )

    def __init__(self, id: str, driver: str, path: Path | None = None, *, state: ModelState = "available") -> None:
        self.id = id
        self.driver = driver
        self.path = path
        self.state: ModelState = state
        self.reason = ""
        self.settings: dict[str, Any] = {}
        self.specification: ModelSpecification | None = None
        self.stamp: tuple[int, int, int] | None = None
        self.max_tokens: int | None = None
        self.temperature: float | None = None
        self.timeout_s: float | None = None

    def info(self, instances: int, slots: tuple[str, ...]) -> ModelInfo:
        """The model as clients see it."""
        return ModelInfo(
            self.id,
            self.driver,
            self.state,
            self.reason,
            printable(self.path or ""),
            self.specification,
            instances,
            slots,
        )


def printable(path: Path | str) -> str:
    """Return a path as text that can be sent and shown: bytes that are no UTF-8 appear by number."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
