"""How a verdict about a plugin's folder becomes the entry that the registry lists and drivers are started from."""

import logging
from pathlib import Path

from byenatos_kernel.models import PluginEntry
from byenatos_kernel.plugin_folders import PluginFolder
from byenatos_kernel.plugin_versions import PluginVersions
from byenatos_kernel.store import Store
from byenatos_kernel.verdicts import Verdict
from byenatos_sdk.manifest import parse_manifest
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["log_entry", "make_entry"]

_VENDOR = "vendor"

log = logging.getLogger("byenatos")


def make_entry(folder: PluginFolder, verdict: Verdict, store: Store, versions: PluginVersions) -> PluginEntry:
    """Make an entry of a verdict; the manifest is read from the bytes that were stored."""
    old = folder.entry
    own = verdict
    if not verdict.reason:
        verdict = versions.choose(verdict)
    entry = PluginEntry(old.id, folder.path, None, verdict.reason, verdict=verdict)
    if not verdict.reason:
        try:
            data, statement = store.glance(verdict.digest, "plugin.toml")
            manifest = parse_manifest(data, folder.path)
        except ByenatosError as error:
            entry.reason = error.message
        else:
            stored = store.files(verdict.digest)
            vendored = any(one.name.startswith(f"{_VENDOR}/") for one in statement.subject)
            imports = ((stored / _VENDOR,) if vendored else ()) + (
                (Path(verdict.environment),) if verdict.environment else ()
            )
            entry = PluginEntry(old.id, folder.path, manifest, verdict=verdict, stored=stored, imports=imports)
    if verdict is not own and (why := versions.why_held(own)):
        entry.held = f"version {own.version} {why}; {verdict.version} runs instead"
    entry.declared = entry.manifest or old.declared
    return entry


def log_entry(entry: PluginEntry) -> None:
    """Have the log say what became of a plugin."""
    verdict = entry.verdict
    if entry.manifest is None:
        log.warning("plugin %s is refused: %s", entry.id, entry.reason)
    elif verdict.unsigned:
        log.warning("plugin %s %s runs UNSIGNED, as policies/access.toml allows: %s", entry.id, verdict.version,
                    verdict.unsigned)  # fmt: skip
    else:
        log.info("plugin %s %s is available: signed by %s with the key %s, digest %.16s…", entry.id, verdict.version,
                 verdict.publisher, verdict.key, verdict.digest)  # fmt: skip
