"""What each sandbox gets: what a manifest requests, as far as the operator's files allow it.

The operator's files are ``access.toml``, which names drivers, and the profiles, which bound kinds of drivers. Nothing
is granted that only one side mentions.
"""

from pathlib import Path

from byenatos_kernel.access import Access
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_kernel.profiles import Profile, Profiles, usual_profile
from byenatos_sandbox import Grant

__all__ = ["Grants"]


class Grants:
    """Makes grants. ``nurseries`` are what the processes are made from; without, each is started cold."""

    def __init__(self, access: Access, profiles: Profiles, scratch: Path, nurseries: Nurseries | None = None) -> None:
        self.access = access
        self.nurseries = nurseries
        self._profiles = profiles
        self._scratch = scratch

    def for_model(self, plugin: PluginEntry, model: ModelEntry) -> Grant:
        """The grant of a process that serves ``model``.

        Raises:
            InvalidRequest: the operator's files or the manifest ask for what cannot be.
        """
        files = [] if model.path is None else [model.path]
        if model.file is not None:
            files += [file.path for file in model.file.further]
        return self._make(plugin, self.name_of(model), files, serves=True)

    @staticmethod
    def name_of(model: ModelEntry) -> str:
        """What the processes of ``model`` are called."""
        return f"{model.driver}/{model.id}"

    def for_probe(self, plugin: PluginEntry, path: Path) -> Grant:
        """The grant of a process that only looks at a file.

        Raises:
            InvalidRequest: the operator's files or the manifest ask for what cannot be.
        """
        return self._make(plugin, f"{plugin.id} probing {path.name}", [path], serves=False)

    @property
    def required(self) -> frozenset[str]:
        """The kinds of isolation without which no process may run."""
        return frozenset() if self.access.isolation.uncontained else self.access.isolation.required

    def closed_network(self, plugin: PluginEntry) -> str:
        """Say why the profile of a driver lets it make no requests at all; empty if it does.

        Raises:
            InvalidRequest: the operator's files are not as they must be.
        """
        name, profile = self._profile(plugin)
        return "" if profile.network else f"the profile {name} of the driver {plugin.id} has network = false"

    def _profile(self, plugin: PluginEntry) -> tuple[str, Profile]:
        assert plugin.manifest is not None
        name = self.access.rules(plugin.id).profile or usual_profile(plugin.manifest)
        return name, self._profiles.find(name)

    def _make(self, plugin: PluginEntry, name: str, files: list[Path], *, serves: bool) -> Grant:
        assert plugin.manifest is not None
        wanted = plugin.manifest.permissions
        rules = self.access.rules(plugin.id)
        _, profile = self._profile(plugin)
        return Grant(
            name=name,
            plugin=str(plugin.stored),
            imports=tuple(str(one) for one in plugin.imports if not one.is_relative_to(plugin.stored)),
            files=tuple(map(str, files)) if profile.model_files else (),
            devices=rules.devices if profile.devices else (),
            memory_mib=profile.memory(wanted.memory_mib),
            threads=profile.thread_count(wanted.threads),
            tasks=profile.tasks,
            processors=profile.processors,
            open_files=profile.open_files,
            file_size_mib=profile.file_size_mib,
            scratch_mib=profile.scratch_mib,
            arena_mib=min(wanted.arena_mib, profile.arena_mib) if serves else 0,
            writable_code=wanted.writable_code and profile.writable_code,
            egress_socket=wanted.egress_socket and profile.network,
            template=rules.template,
            required=self.required,
            scratch_root=str(self._scratch),
        )
