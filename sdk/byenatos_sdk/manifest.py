"""Read and check ``plugin.toml``: who a plugin is, what it asks for, which models it declares.

Facts stand in the manifest, behaviour in code: reading, listing and checking a plugin never runs its code. Unknown keys
and wrong types are refused with file, key and what was expected.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from byenatos_sdk.manifest_fault import fault
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import ModelSpecification
from byenatos_sdk.protocol.versions import MAJORS

__all__ = [
    "DeclaredModel",
    "Egress",
    "EgressKey",
    "Lifecycle",
    "Manifest",
    "ManifestError",
    "Permissions",
    "Plugin",
    "Price",
    "parse_manifest",
    "read_manifest",
]

MAX_MANIFEST = 256 << 10
MAX_DOTS = 500
LONGEST_NAME = 256
_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
MOST_EGRESS = 32
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_SECRET = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PREFIX = re.compile(r"[!-~ ]{0,32}")
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class ManifestError(InvalidRequest):
    """A manifest is not as it must be; the message names the file, the key, what was expected and what was found."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the manifest: frozen, unknown keys are errors."""


class Plugin(_Strict, frozen=True):
    """``[plugin]``. ``entry`` is ``module:Class`` inside the folder; ``protocol`` the majors that it speaks."""

    id: str
    version: str
    entry: str
    kind: Literal["driver", "front"] = "driver"
    summary: str = ""
    publisher: str = ""
    protocol: list[int] = field(default_factory=lambda: [1])


class Permissions(_Strict, frozen=True):
    """``[permissions]``: what the plugin *requests*; the operator's policy grants.

    ``model_files`` are the patterns of the file names that it may be shown (``*.gguf``). ``file_settings`` are keys of
    ``[settings]`` by which the operator may name further files for a model: the value is a name, a table with the name
    as its ``file``, or a list of those; what the manifest itself says there is granted to nobody. ``memory_mib`` bounds
    private
    memory (0: no bound), ``threads`` is how many it wants. ``writable_code`` asks for memory that is written and then
    executed, which compilers at run time and closures of ctypes need and an attack likes. ``egress_socket`` asks that
    the broker be reached at ``byenatos_sdk.egress.SOCKET`` too, for libraries that take the path of a unix socket.
    ``arena_mib`` is the memory that it shares with the kernel, to hand over warm state (``warm.py``; 0: it has none).
    """

    model_files: list[str] = field(default_factory=list)
    file_settings: list[str] = field(default_factory=list)
    memory_mib: int = 0
    threads: int = 1
    writable_code: bool = False
    egress_socket: bool = False
    arena_mib: int = 0


class EgressKey(_Strict, frozen=True):
    """``key`` of an ``[[egress]]`` table: where the broker puts the operator's key named ``secret``.

    One of ``header`` (with a ``prefix``), ``query`` (a parameter's name) and ``scheme`` (``tc3``, Tencent's signature
    for a ``service``; the key is then ``id:secret``).
    """

    secret: str
    header: str = ""
    prefix: str = ""
    query: str = ""
    scheme: Literal["", "tc3"] = ""
    service: str = ""


class Egress(_Strict, frozen=True):
    """``[[egress]]``: requests that the plugin wants to make, by the broker; the operator grants host and key.

    ``paths`` are prefixes: ``/v1/`` is everything below it, ``/v1/chat`` also itself and ``/v1/chat:x``. A host that
    speaks plain ``http`` gets no key. The host ``*`` asks for whatever places the operator grants and no other table
    names; its key is put in if that is granted too.
    """

    host: str
    port: int = 0
    scheme: Literal["https", "http"] = "https"
    methods: list[str] = field(default_factory=lambda: ["GET", "POST"])
    paths: list[str] = field(default_factory=lambda: ["/"])
    max_request_mib: int = 32
    max_response_mib: int = 256
    key: EgressKey | None = None

    @property
    def anywhere(self) -> bool:
        """Whether it asks for whatever the operator grants."""
        return self.host == "*"

    @property
    def place(self) -> str:
        """``host:port``, as the operator grants it."""
        return f"{self.host}:{self.port or (443 if self.scheme == 'https' else 80)}"


class Lifecycle(_Strict, frozen=True):
    """``[lifecycle]``: how long importing the code and loading a model may take, in seconds.

    ``preload`` names modules that take long to import: they are imported once, in a sandbox of their own, from which
    the driver's processes are forked. ``preload_model`` says that the driver's class has ``preload``, which loads a
    model there too: each model then has a sandbox of its own for that, and without it ``preload`` is only for drivers
    that are granted no files. Neither may start threads. ``self_test``: whether an instance must have answered a
    request of one token before a swap counts on it; where nothing is said, it must if its model is a file.
    """

    import_timeout_s: float = 20.0
    preload: list[str] = field(default_factory=list)
    preload_model: bool = False
    self_test: bool | None = None
    start_timeout_s: float = 300.0


class Price(_Strict, frozen=True):
    """``price`` of a model: in ``currency``, for a million tokens read, read from the cache, and written.

    ``source`` says where that stood, and when.
    """

    input: float
    output: float = 0.0
    cached: float | None = None
    currency: str = "USD"
    source: str = ""


class DeclaredModel(_Strict, frozen=True):
    """``[[models]]``: a model that needs no file, with settings of its own over ``[settings]``.

    ``context_length`` in tokens; ``features`` as in ``ModelSpecification``. ``memory_mib`` is what it takes of this
    machine once it is loaded: nothing, for a vendor's.
    """

    id: str
    name: str = ""
    context_length: int = 0
    features: list[str] = field(default_factory=list)
    memory_mib: int = 0
    price: Price | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def specification(self) -> ModelSpecification:
        """The model as the manifest describes it; the price stands in the metadata, as ``price.input`` and so on."""
        price = {} if self.price is None else msgspec.structs.asdict(self.price)
        metadata = {f"price.{name}": str(value) for name, value in price.items() if value not in {None, ""}}
        return ModelSpecification(
            self.id,
            name=self.name,
            context_length=self.context_length,
            features=frozenset(self.features),
            metadata=metadata,
            memory_bytes=self.memory_mib << 20,
        )


class Manifest(_Strict, frozen=True):
    """The whole ``plugin.toml``."""

    plugin: Plugin
    settings: dict[str, Any] = field(default_factory=dict)
    permissions: Permissions = Permissions()
    lifecycle: Lifecycle = Lifecycle()
    egress: list[Egress] = field(default_factory=list)
    models: list[DeclaredModel] = field(default_factory=list)


_TABLES: dict[str, type[Struct]] = {
    "": Manifest,
    "plugin": Plugin,
    "permissions": Permissions,
    "lifecycle": Lifecycle,
    "egress": Egress,
    "egress.key": EgressKey,
    "models": DeclaredModel,
    "models.price": Price,
}


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder/plugin.toml``.

    Raises:
        ManifestError: naming the file and key, what was expected and what was found.
    """
    path = folder / "plugin.toml"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_manifest(data, folder)


def parse_manifest(data: bytes, folder: Path) -> Manifest:
    """Read the content of the ``plugin.toml`` of ``folder``; raises ``ManifestError`` as :func:`read_manifest` does."""
    path = folder / "plugin.toml"
    if len(data) > MAX_MANIFEST:
        raise ManifestError(f"{path}: expected at most {MAX_MANIFEST} bytes, found more")
    try:
        text = data.decode()
        _check_dots(text)
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not valid TOML: {error}") from None
    try:
        manifest = msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{path}{fault(error, table, text, _TABLES)}") from None
    _check(manifest, folder, path)
    return manifest


def _check_dots(text: str) -> None:
    """Refuse keys of thousands of parts, which take Python's reader minutes; raises ``ValueError``."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MAX_DOTS:
            raise ValueError(f"line {number}: expected at most {MAX_DOTS} dots in a line, found {line.count('.')}")


def _check(manifest: Manifest, folder: Path, path: Path) -> None:
    plugin = manifest.plugin
    if not _ID.fullmatch(plugin.id):
        raise ManifestError(f"{path}: plugin.id: expected lower-case letters, digits, - and _, found {plugin.id!r}")
    if plugin.id != folder.name:
        if not _ID.fullmatch(folder.name):  # no id could be that
            raise ManifestError(f"{path}: expected a folder called {plugin.id!r}, as its plugin.id; rename it")
        raise ManifestError(f"{path}: plugin.id: expected {folder.name!r}, the folder's name, found {plugin.id!r}")
    names = [("plugin.version", plugin.version), ("plugin.publisher", plugin.publisher)]
    names += [(f"models[{number}].id", model.id) for number, model in enumerate(manifest.models)]
    for key, name in names:  # they are shown beside what is ours to say
        if not name.isprintable() or len(name) > LONGEST_NAME:
            wanted = f"at most {LONGEST_NAME} characters, all of which can be seen"
            raise ManifestError(f"{path}: {key}: expected {wanted}, found {name!r:.100}")
    if not _ENTRY.fullmatch(plugin.entry):
        raise ManifestError(f"{path}: plugin.entry: expected 'module:Class', found {plugin.entry!r}")
    if not set(plugin.protocol) & set(MAJORS):
        raise ManifestError(f"{path}: plugin.protocol: expected one of {list(MAJORS)}, found {plugin.protocol}")
    for key, value in (
        ("lifecycle.import_timeout_s", manifest.lifecycle.import_timeout_s),
        ("lifecycle.start_timeout_s", manifest.lifecycle.start_timeout_s),
    ):
        if not value > 0:
            raise ManifestError(f"{path}: {key}: expected more than 0 seconds, found {value}")
    for module in manifest.lifecycle.preload:
        if not _MODULE.fullmatch(module):
            raise ManifestError(f"{path}: lifecycle.preload: expected names of modules, found {module!r}")
    if manifest.permissions.file_settings and not manifest.permissions.model_files:
        raise ManifestError(f"{path}: permissions.file_settings: expected model_files beside it, found none")
    for key in manifest.permissions.file_settings:
        if key not in manifest.settings:
            raise ManifestError(f"{path}: permissions.file_settings: expected keys of [settings], found {key!r}")
    if len(manifest.egress) > MOST_EGRESS:
        raise ManifestError(f"{path}: egress: expected at most {MOST_EGRESS} tables, found {len(manifest.egress)}")
    for number, egress in enumerate(manifest.egress):
        if wrong := _wrong_egress(egress):
            raise ManifestError(f"{path}: egress[{number}].{wrong}")
    if manifest.permissions.egress_socket and not manifest.egress:
        raise ManifestError(f"{path}: permissions.egress_socket: expected [[egress]] tables beside it, found none")
    for number, model in enumerate(manifest.models):
        amounts = () if model.price is None else (model.price.input, model.price.output, model.price.cached or 0.0)
        if min(model.context_length, model.memory_mib) < 0 or any(not 0 <= one < float("inf") for one in amounts):
            raise ManifestError(f"{path}: models[{number}]: expected no length, no memory and no price below 0")
    ids = [model.id for model in manifest.models]
    if len(set(ids)) != len(ids):
        raise ManifestError(f"{path}: models: expected each id once, found {ids}")


def _wrong_egress(egress: Egress) -> str | None:
    """Say what is wrong with a table, if anything is."""
    if egress.anywhere and egress.port:
        return f"port: expected none beside the host '*', found {egress.port}"
    if not egress.anywhere and not _HOST.fullmatch(egress.host):
        return f"host: expected a lower-case host name or '*', found {egress.host!r}"
    if not 0 <= egress.port <= 65535:
        return f"port: expected 1 to 65535, found {egress.port}"
    for method in egress.methods:
        if method not in _METHODS:
            return f"methods: expected some of {', '.join(_METHODS)}, found {method!r}"
    for prefix in egress.paths:
        if not _PATH.fullmatch(prefix) or "//" in prefix or {".", ".."} & set(prefix.split("/")):
            return f"paths: expected prefixes like '/v1/', in their one plain spelling, found {prefix!r}"
    if not egress.methods or not egress.paths:
        return "methods, paths: expected at least one of each, found none"
    for key in ("max_request_mib", "max_response_mib"):
        if not 1 <= getattr(egress, key) <= 4096:
            return f"{key}: expected 1 to 4096, found {getattr(egress, key)}"
    return _wrong_key(egress) if egress.key is not None else None


def _wrong_key(egress: Egress) -> str | None:
    key = egress.key
    assert key is not None
    if egress.scheme == "http":
        return "key: expected none where the scheme is http: a key is sent encrypted or not at all"
    if not _SECRET.fullmatch(key.secret):
        return f"key.secret: expected lower-case letters, digits, - and _, found {key.secret!r}"
    given = [name for name in ("header", "query", "scheme") if getattr(key, name)]
    if len(given) != 1:
        return f"key: expected one of header, query and scheme, found {' and '.join(given) or 'none'}"
    for name in ("header", "query", "service"):
        if getattr(key, name) and not _TOKEN.fullmatch(getattr(key, name)):
            return f"key.{name}: expected letters, digits, - and _, found {getattr(key, name)!r}"
    if key.prefix and (not key.header or not _PREFIX.fullmatch(key.prefix)):
        return f"key.prefix: expected up to 32 characters beside header, found {key.prefix!r}"
    if (key.scheme == "tc3") != bool(key.service):
        return "key.service: expected one beside scheme = 'tc3', and only there"
    return None
