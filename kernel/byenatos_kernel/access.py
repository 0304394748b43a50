"""Read and check ``access.toml``: what the operator grants to drivers and clients, and what must stand around drivers.

A manifest requests, this file grants; what stands in one of them only is not given. The file is ``<home>/policies/
access.toml``; without it, the one that ships with the kernel counts. Unknown keys and wrong types are errors that name
the file, the key, what was expected and what was found. The shipped file explains each key.
"""

import ipaddress
import re
from pathlib import Path, PurePath
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from byenatos_kernel.toml_file import read_toml
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = [
    "Access",
    "AccessError",
    "ClientRules",
    "DriverRules",
    "Isolation",
    "PluginRules",
    "SecretSource",
    "TemplateRules",
    "check_access",
    "read_access",
]

MAX_ACCESS = 1 << 20
_HOST = re.compile(
    r"(?:http://)?(?=.{1,253}:)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*:(\d{1,5})"
)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAST_PORT = 65535


class AccessError(InvalidRequest):
    """The file is not as it must be. The message names it and the key; correct it there."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file: unknown keys are errors."""


class Isolation(_Strict, frozen=True):
    """``[isolation]``: what a driver must have around it, and whether one may run with nothing at all."""

    required: frozenset[str] = frozenset({"filesystem", "network", "system-calls"})
    uncontained: bool = False


class PluginRules(_Strict, frozen=True):
    """``[plugins]``: whether a folder that nobody signed may run."""

    unsigned: bool = False


class TemplateRules(_Strict, frozen=True):
    """``[templates]``: whether models are loaded ahead, and how long and how large what nobody uses may stay."""

    models: bool = True
    idle_s: Annotated[float, Meta(ge=0, le=1e6)] = 300.0
    idle_mib: Annotated[int, Meta(ge=0)] = 1024


class DriverRules(_Strict, frozen=True):
    """``[drivers.ID]``: what is granted to one driver.

    ``network`` are ``host:port``, ``http://host:port`` where a driver that asks for any host is to speak without TLS;
    ``addresses`` the networks (CIDR) that its hosts may resolve to although they are not
    public; ``ca`` a file of certificates to trust instead of the system's; ``devices`` GPU device nodes.
    """

    profile: str = ""
    template: Literal["one-shot", "shared"] = "one-shot"
    network: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ca: str = ""
    secrets: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class SecretSource(_Strict, frozen=True):
    """``[secrets.NAME]``: where the broker finds a key; exactly one of the three."""

    environment: str | None = None
    file: str | None = None
    keyring: str | None = None


class ClientRules(_Strict, frozen=True):
    """``[[clients]]``: a key by which fronts know an application, as ``sha256`` of its text; never the key itself.

    ``slots`` are the slots and models that it may name (empty: all); ``admin`` may manage the kernel as well;
    ``per_minute`` is how many requests fronts answer in any 60 s, all workers together (0: any number).
    """

    name: str
    sha256: str
    slots: tuple[str, ...] = ()
    role: Literal["user", "admin"] = "user"
    per_minute: Annotated[int, Meta(ge=0, le=100_000)] = 0


class Access(_Strict, frozen=True):
    """The whole file."""

    isolation: Isolation = Isolation()
    plugins: PluginRules = PluginRules()
    templates: TemplateRules = TemplateRules()
    drivers: dict[str, DriverRules] = field(default_factory=dict)
    secrets: dict[str, SecretSource] = field(default_factory=dict)
    clients: tuple[ClientRules, ...] = ()

    def rules(self, driver: str) -> DriverRules:
        """What is granted to ``driver``: nothing, if the file does not name it."""
        return self.drivers.get(driver, DriverRules())

    def warnings(self) -> tuple[str, ...]:
        """What the file allows that an operator should be reminded of."""
        if not self.isolation.uncontained:
            return ()
        sentence = (
            "policies/access.toml says uncontained = true: drivers run even where nothing isolates them from your "
            "files, keys and network; set it to false once `byenatos doctor` finds what is required"
        )
        return (sentence,)


def read_access(path: Path) -> Access:
    """Read ``path``.

    Raises:
        AccessError: naming the file and key, what was expected and what was found.
    """
    access = read_toml(path, Access, most=MAX_ACCESS, error=AccessError)
    wrong = check_access(access)
    if wrong is not None:
        raise AccessError(f"{path}: {wrong}")
    return access


def check_access(access: Access) -> str | None:
    """Say what is wrong with the values, if anything is."""
    from byenatos_sandbox.layers import KINDS  # late: what it imports must not be in the kernel before `_forgo`

    if unknown := sorted(access.isolation.required - frozenset(KINDS)):
        return f"isolation.required: expected some of {', '.join(KINDS)}, found {unknown[0]!r}"
    for name, rules in access.drivers.items():
        if wrong := _wrong_rules(rules, access):
            return f"drivers.{name}.{wrong}"
    for name, source in access.secrets.items():
        if wrong := _wrong_source(name, source):
            return f"secrets.{name}: {wrong}"
    return _wrong_clients(access.clients)


def _wrong_clients(clients: tuple[ClientRules, ...]) -> str | None:
    names: set[str] = set()
    keys: dict[str, str] = {}
    for client in clients:
        if not _NAME.fullmatch(client.name):
            return f"clients.name: expected lower-case letters, digits, - and _, found {client.name!r:.80}"
        if client.name in names:
            return f"clients: expected each name once, found {client.name!r} twice"
        if not _SHA256.fullmatch(client.sha256):
            return (
                f"clients.{client.name}.sha256: expected 64 hexadecimal digits, as `byenatos keys make` prints them, "
                "found something else (not shown: it may be a key)"
            )
        if client.sha256 in keys:
            return f"clients: expected a key of its own for {client.name}, found that of {keys[client.sha256]}"
        if "" in client.slots:
            return f"clients.{client.name}.slots: expected names of slots, found an empty one"
        names.add(client.name)
        keys[client.sha256] = client.name
    return None


def _wrong_rules(rules: DriverRules, access: Access) -> str | None:
    if rules.profile and not _NAME.fullmatch(rules.profile):
        return f"profile: expected the name of a file in policies/sandbox, found {rules.profile!r}"
    for host in rules.network:
        found = _HOST.fullmatch(host)
        if found is None or not 0 < int(found[4]) <= _LAST_PORT:
            return f"network: expected 'host:port' with a lower-case host name, found {host!r}"
    for network in rules.addresses:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            return f"addresses: expected a network like '127.0.0.1/32', found {network!r}"
    for secret in rules.secrets:
        if secret not in access.secrets:
            known = ", ".join(sorted(access.secrets)) or "[secrets], where none stands"
            return f"secrets: expected one of {known}, found {secret!r}"
    for path in (*rules.devices, *([rules.ca] if rules.ca else [])):
        if "\0" in path or not PurePath(path).is_absolute():
            return f"devices, ca: expected absolute paths, found {path!r}"
    for device in rules.devices:
        node = PurePath(device)
        if PurePath("/dev") not in node.parents or ".." in node.parts:
            return f"devices: expected nodes below /dev, found {device!r}"
    return None


def _wrong_source(name: str, source: SecretSource) -> str | None:
    if not _NAME.fullmatch(name):
        return "expected a name of lower-case letters, digits, - and _"
    given = [key for key in ("environment", "file", "keyring") if getattr(source, key) is not None]
    if len(given) != 1:
        return f"expected exactly one of environment, file and keyring, found {' and '.join(given) or 'none'}"
    if source.environment is not None and not _VARIABLE.fullmatch(source.environment):
        return "environment: expected the name of a variable, found something else (not shown: it may be a key)"
    if source.file is not None and ("\0" in source.file or not PurePath(source.file).is_absolute()):
        return f"file: expected an absolute path, found {source.file!r}"
    if source.keyring is not None and not all(source.keyring.partition("/")):
        return f"keyring: expected 'service/user', found {source.keyring!r}"
    return None
