"""The models that need no file, and what models are set to.

Models are declared by manifests, by the configuration, and last by vendors' lists. Of a model's settings those of its
driver's manifest come first, over them its declaration's, and over all of them the operator's.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from byenatos_kernel.config import Config, ModelConfig
from byenatos_kernel.models import ModelEntry, Offer, PluginEntry

__all__ = ["Declarations", "settings_of"]


class Declarations:
    """What the configuration says of models, laid over what manifests and vendors say."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.warnings: tuple[str, ...] = ()
        """What manifests declare that somebody else has declared already, in words."""

    def entries(
        self, plugins: Mapping[str, PluginEntry], offers: Mapping[str, Mapping[str, Offer]]
    ) -> dict[str, ModelEntry]:
        """Make an entry of each declared model, by its name; whoever declares it first has the name."""
        declared: dict[str, ModelEntry] = {}
        warnings: list[str] = []
        for plugin in plugins.values():
            manifest = plugin.declared  # of one that is refused by now too: what runs is still its model
            if manifest is not None:
                for model in manifest.models:
                    entry = ModelEntry(model.id, plugin.id)
                    entry.settings = {**manifest.settings, **model.settings}
                    entry.declared = msgspec.structs.replace(model.specification, driver=plugin.id)
                    has = declared.setdefault(model.id, entry)
                    if has is not entry:
                        warnings.append(
                            f"the driver {plugin.id} does not offer its model {model.id!r}: {has.driver} declares one "
                            "of that name; give it another id in its plugin.toml"
                        )
        self.warnings = tuple(warnings)
        for configured in self._config.models:
            if configured.model_id not in declared and not _has_file(configured, plugins):
                declared[configured.model_id] = ModelEntry(configured.model_id, configured.vendor)
                declared[configured.model_id].settings = settings_of(plugins.get(configured.vendor))
        for driver, offered in offers.items():
            if (offering := plugins.get(driver)) is not None and offering.declared is not None:
                for name, offer in offered.items():
                    declared.setdefault(name, _offered(driver, offering.declared.settings, offer))
        for entry in declared.values():
            self.configure(entry)
        return declared

    def configured(self, plugin: PluginEntry, model: str) -> dict[str, Any]:
        """What a driver would be given as the settings of a model."""
        return {**settings_of(plugin), **self.operators(plugin.id, model)}

    def operators(self, driver: str, model: str) -> dict[str, Any]:
        """What the operator has set for a model."""
        return next((one.settings for one in self._config.models if (one.vendor, one.model_id) == (driver, model)), {})

    def configure(self, entry: ModelEntry) -> None:
        """Lay the operator's ``model_config`` over an entry."""
        for configured in self._config.models:
            if configured.model_id == entry.id and configured.vendor == entry.driver:
                entry.settings = {**entry.settings, **configured.settings}
                entry.max_tokens = configured.max_tokens
                entry.temperature = configured.temperature
                entry.strict = configured.strict
                entry.timeout_s = configured.timeout
                entry.gap_timeout_s = configured.gap_timeout
                entry.journal = configured.journal


def settings_of(plugin: PluginEntry | None) -> dict[str, Any]:
    """Return the settings of a driver's manifest; none where there is no such driver, or a refused one."""
    return dict(plugin.manifest.settings) if plugin is not None and plugin.manifest is not None else {}


def _has_file(configured: ModelConfig, plugins: Mapping[str, PluginEntry]) -> bool:
    plugin = plugins.get(configured.vendor)
    return bool(plugin and plugin.declared and plugin.declared.permissions.model_files)


def _offered(driver: str, settings: dict[str, Any], offer: Offer) -> ModelEntry:
    """Make the entry of a model that only its vendor's list names."""
    entry = ModelEntry(offer.specification.id, driver)
    entry.settings = {**settings, **offer.specification.settings}
    entry.declared = offer.specification
    entry.offered_at = offer.at
    return entry
