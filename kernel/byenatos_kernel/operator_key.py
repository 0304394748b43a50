"""The operator's own key, and what it signs: the plugins that ship, and others that the operator looked at.

The key is made once, when a home is new (``byenatos init``, or the first start of a kernel). The shipped plugins are
signed with it as they are at that moment, so that a later change to them is noticed like a change to any other plugin.
The signatures lie in ``<home>/signatures``, not beside the code: many homes may use one installation.
"""

import datetime as dt
import os
import tempfile
from pathlib import Path

from byenatos_kernel.shipped import shipped
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import parse_manifest
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.signing import KeyPair, encode_statement, make_keys, read_keys, read_tree, sign
from byenatos_sdk.signing.statement import decode_statement

__all__ = [
    "HISTORIES",
    "OPERATOR",
    "initialise",
    "is_new",
    "operator_keys",
    "sign_folder",
    "sign_for_home",
    "sign_shipped",
]

OPERATOR = "operator"
"""The publisher's name of every operator's key; it means "whoever runs this kernel"."""
HISTORIES = frozenset({".git", ".hg", ".svn"})
"""Where an author's tools keep what a plugin was before."""
_YEARS = 10


def is_new(home: Home) -> bool:
    """Whether the home has never been initialised. One whose private key was moved away has been."""
    return not _public(home).exists()


def initialise(home: Home) -> tuple[KeyPair, list[str]]:
    """Make the operator's key, sign the shipped plugins, and trust the key; return it and the ids that were signed.

    The last step is what makes a home one that is not new: what is interrupted before it is done again.
    """
    home.create()
    half = home.operator_key.with_suffix(".pub")
    if not half.exists():
        home.operator_key.unlink(missing_ok=True)  # nobody has ever seen its public half
        today = dt.datetime.now(dt.UTC).date()
        keys = make_keys(home.operator_key, OPERATOR, today.replace(year=today.year + _YEARS, day=1))
    else:
        keys = read_keys(home.operator_key)
    signed = sign_shipped(home, keys)
    _write(_public(home), half.read_bytes())
    return keys, signed


def operator_keys(home: Home) -> KeyPair:
    """Read the operator's key; raises ``InvalidRequest`` if it is not there."""
    if not home.operator_key.exists():
        raise InvalidRequest(f"{home.operator_key}: expected the operator's key, found none; byenatos init makes one")
    return read_keys(home.operator_key)


def sign_folder(folder: Path, keys: KeyPair) -> tuple[str, bytes]:
    """Sign a plugin folder as it is now; return the plugin's id and the envelope.

    Raises:
        InvalidRequest: the folder or its manifest is not as it must be.
        OSError: it cannot be read.
    """
    from byenatos_kernel.verification import is_older

    files = read_tree(folder)
    if "plugin.toml" not in files:
        raise InvalidRequest(f"{folder}: expected a plugin folder, found no plugin.toml in it")
    if history := next((name for name in files if HISTORIES.intersection(name.split("/"))), None):
        raise InvalidRequest(
            f"{folder / history}: expected what is to run, found a file of its history: it would be copied to whoever "
            "installs this, and break the signature with each commit; sign a copy without it (git archive HEAD | tar "
            "-x -C COPY)"
        )
    plugin = parse_manifest(files["plugin.toml"].data, folder).plugin
    is_older(plugin.version, plugin.version)  # no kernel could compare another kind of version
    statement = encode_statement(files, id=plugin.id, version=plugin.version, publisher=keys.public.publisher)
    decode_statement(statement)
    return plugin.id, sign(statement, keys)


def sign_for_home(home: Home, folder: Path, keys: KeyPair) -> Path:
    """Sign a folder as the operator; the signature lies in the home."""
    plugin, envelope = sign_folder(folder, keys)
    home.signatures.mkdir(parents=True, exist_ok=True)
    path = home.signatures / f"{plugin}.sig"
    _write(path, envelope)
    return path


def sign_shipped(home: Home, keys: KeyPair) -> list[str]:
    """Sign every plugin that ships; return their ids."""
    folders = sorted(path.parent for path in shipped("plugins").glob("*/plugin.toml"))
    for folder in folders:
        sign_for_home(home, folder, keys)
    return [folder.name for folder in folders]


def _public(home: Home) -> Path:
    return home.trust / f"{OPERATOR}.pub"


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    Path(new).replace(path)
