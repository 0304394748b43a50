"""Read and check the operator's ``config.json``.

::

    {
      "llm_driver_config": {
        "max_concurrent_models": 3,
        "default_model": "smollm2",
        "fallback_model": "gemma-3-270m",
        "load_balance_strategy": "least_loaded",
        "health_check_interval": 30,
        "auto_optimization": false
      },
      "model_config": {
        "model_id": "smollm2", "vendor": "llamacpp", "api_key": "${NAME}",
        "max_tokens": 512, "temperature": 0.7, "timeout": 120, "gap_timeout": 60, "rate_limit": 60,
        "settings": {"n_ctx": 4096}
      },
      "slots": {"coder": "gemma-3-270m"},
      "fronts": {"http": {"listen": "127.0.0.1:8421", "workers": 1}}
    }

``model_config`` may be one object or a list of them. Everything has a default; an unknown key or a wrong type is an
error that names the file, the key, what was expected and what was found. Keys that are read but not acted on yet are
listed in :data:`NOT_IN_FORCE`, and ``byenatos config check`` repeats them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from byenatos_kernel.addresses import split_address
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.frames import encode

__all__ = [
    "NOT_IN_FORCE",
    "Config",
    "ConfigError",
    "DriverConfig",
    "FrontConfig",
    "ModelConfig",
    "read_config",
    "write_first_config",
]

MAX_CONFIG = 1 << 20

NOT_IN_FORCE: dict[str, str] = {
    "llm_driver_config.load_balance_strategy": "a request goes to the instance of its slot; there is no choice yet",
    "model_config.api_key": "a key is named under [secrets] of policies/access.toml and granted to its driver there",
    "model_config.rate_limit": "requests are not counted per model yet",
}
"""Keys that are accepted and checked but not acted on yet, each with what happens instead."""

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Limit = Annotated[float, Meta(ge=0)]


class ConfigError(InvalidRequest):
    """The configuration is not as it must be. The message names the file and the key; correct it there."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An object of the configuration: unknown keys are errors."""


class DriverConfig(_Strict, frozen=True):
    """``llm_driver_config``. ``health_check_interval`` in seconds, 0 to switch the checks off.

    With ``auto_optimization`` the triggers of ``swap.toml`` swap; without it they are not looked at.
    """

    max_concurrent_models: Annotated[int, Meta(ge=1, le=1024)] = 4
    default_model: _Name | None = None
    fallback_model: _Name | None = None
    load_balance_strategy: _Name = "least_loaded"
    health_check_interval: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    auto_optimization: bool = False


class ModelConfig(_Strict, frozen=True):
    """``model_config``: defaults for one model of one vendor (a driver's id). ``timeout`` in seconds.

    ``gap_timeout``: seconds for which an answer that has begun may be silent before its model is taken to hang, five
    times as many before its first word; 0: any. By default 120 for a model in a file; the drivers of vendors have their
    own limit (``gap_s``).
    ``api_key`` is a reference to an environment variable. ``settings`` go to the driver over those of its manifest.
    Every ``journal`` tokens the state of running answers is copied, for when their process dies (0: never).
    """

    model_id: _Name
    vendor: _Name
    api_key: str | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    gap_timeout: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    rate_limit: _Limit | dict[str, _Limit] | None = None
    journal: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    strict: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


class FrontConfig(_Strict, frozen=True):
    """One of ``fronts``: where a plugin of kind ``front`` listens, and with how many processes (0: not at all).

    ``settings`` go to the front over those of its manifest.
    """

    listen: _Name = "127.0.0.1:8421"
    workers: Annotated[int, Meta(ge=0, le=64)] = 1
    settings: dict[str, Any] = field(default_factory=dict)


class _File(_Strict, frozen=True):
    """The file as it is written."""

    llm_driver_config: DriverConfig = DriverConfig()
    model_config: ModelConfig | list[ModelConfig] = field(default_factory=list[ModelConfig])
    slots: dict[_Name, _Name] = field(default_factory=dict)
    fronts: dict[_Name, FrontConfig] = field(default_factory=dict)


class Config(Struct, frozen=True):
    """The operator's configuration. ``given`` are the dotted names of the keys that the file really contains."""

    driver: DriverConfig = DriverConfig()
    models: list[ModelConfig] = field(default_factory=list[ModelConfig])
    slots: dict[str, str] = field(default_factory=dict)
    fronts: dict[str, FrontConfig] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    @property
    def bindings(self) -> dict[str, str]:
        """The slots that the file asks for, ``default`` among them if there is a ``default_model``."""
        default = self.driver.default_model
        return {"default": default, **self.slots} if default else dict(self.slots)

    def not_in_force(self) -> tuple[str, ...]:
        """A sentence for each key that is set but not acted on yet."""
        return tuple(f"{key} is not yet in force: {why}" for key, why in NOT_IN_FORCE.items() if key in self.given)


FIRST_CONFIG = """\
{
  "llm_driver_config": {},
  "fronts": {"http": {"listen": "127.0.0.1:8421"}}
}
"""
"""What a new home is given to begin with: a place at which applications that speak HTTP find it."""


def write_first_config(path: Path) -> bool:
    """Write a configuration to begin with unless there is one; return whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(FIRST_CONFIG)
    except FileExistsError:
        return False
    return True


def read_config(path: Path) -> Config:
    """Read ``path``; a file that does not exist means all defaults.

    Raises:
        ConfigError: naming the file and key, what was expected and what was found.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG + 1)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_CONFIG:
        raise ConfigError(f"{path}: expected at most {MAX_CONFIG} bytes, found more")
    try:
        table = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        encode(table)  # what cannot travel to a driver must not first be found out when a model is loaded
    except OverflowError:
        raise ConfigError(f"{path}: expected integers of at most 64 bits, found a larger one") from None
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{path}: expected Unicode text, found half of a surrogate pair: {error.object!a:.60}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    try:
        file_ = msgspec.convert(table, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), table)}") from None
    models = file_.model_config
    config = Config(
        file_.llm_driver_config,
        models if isinstance(models, list) else [models],
        file_.slots,
        file_.fronts,
        frozenset(_keys(table)),
    )
    _check(config, path)
    return config


def _keys(table: dict[str, Any]) -> Iterator[str]:
    """Yield the dotted names of the keys of the two objects, list indices left out."""
    for section in ("llm_driver_config", "model_config"):
        value = table.get(section, {})
        for part in value if isinstance(value, list) else [value]:
            yield from (f"{section}.{key}" for key in part)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {key!r} stands twice in one object")
        table[key] = value
    return table


def _no_constant(name: str) -> float:
    raise ValueError(f"expected a number, found {name}")


_PLACE = re.compile(r" - at (?:`key` in )?`\$?(?P<path>[^`]*)`")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_ENTRIES = {"slots": _Name, "rate_limit": _Limit}
_SECTIONS: dict[str, type[Struct]] = {
    "": _File,
    "llm_driver_config": DriverConfig,
    "model_config": ModelConfig,
    "fronts": FrontConfig,
}


def _explain(message: str, table: Any) -> str:
    """Turn msgspec's ``… - at `$.a.b``` into ``a.b: …, found …`` with the known keys where one is unknown."""
    place = _PLACE.search(message)
    path = place["path"].lstrip(".") if place else ""
    text = message[: place.start()] if place else message
    if "unknown field" in text:
        known = msgspec.structs.fields(_SECTIONS[path.partition("[")[0]])
        text = f"{text}; expected one of {', '.join(field.encode_name for field in known)}"
    else:
        value = table
        for name, index in _STEP.findall(path):
            value = value[int(index)] if index else value.get(name)
        if path.endswith("[...]"):
            path, value = _entry(path, value)
        if "got" not in text and "missing" not in text and "api_key" not in path:
            text = f"{text}, found {value!r:.60}"
    return f"{path}: {text}" if path else text


def _entry(path: str, table: dict[str, Any]) -> tuple[str, Any]:
    """Find the entry that msgspec shows as ``[...]``: the first one that is refused on its own."""
    place = path.removesuffix("[...]")
    kind = _ENTRIES[place.rpartition(".")[2]]
    for key, value in table.items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return f"{place}.{key}", value
    return place, table


def _check(config: Config, path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for model in config.models:
        if model.api_key is not None and not _REFERENCE.fullmatch(model.api_key):
            raise ConfigError(
                f'{path}: model_config.api_key of {model.model_id}: expected a reference like "${{OPENAI_API_KEY}}", '
                "found something else (not shown); a key itself must never stand in this file"
            )
        name = (model.vendor, model.model_id)
        if name in seen:
            raise ConfigError(f"{path}: model_config: expected each model once, found {model.model_id!r} twice")
        seen.add(name)
    for front_id, front in config.fronts.items():
        try:
            split_address(front.listen)
        except InvalidRequest as error:
            raise ConfigError(f"{path}: fronts.{front_id}.listen: {error.message}") from None
        if own := sorted({"clients", "worker"} & front.settings.keys()):
            raise ConfigError(
                f"{path}: fronts.{front_id}.settings.{own[0]}: expected nothing here, found a value; the kernel "
                "says it, and clients stand in policies/access.toml"
            )
    default = config.driver.default_model
    if default and config.slots.get("default", default) != default:
        raise ConfigError(
            f"{path}: slots.default: expected {default!r} as in default_model, found {config.slots['default']!r}"
        )
