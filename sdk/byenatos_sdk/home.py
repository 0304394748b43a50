"""Where one kernel lives on disk: its home folder and the socket that applications find it by.

::

    <home>/config.json    the operator's configuration (optional)
    <home>/models/        drop model files here
    <home>/plugins/       drop plugin folders here
    <home>/policies/      the operator's rules: access.toml and more
    <home>/policies/trust/  publishers' keys (*.pub) and revoked.toml
    <home>/keys/          mode 0700: the operator's own key
    <home>/signatures/    what the operator signed: shipped plugins, and others after a look at them
    <home>/store/         verified plugins, by digest, to read only; drivers run from here
    <home>/environments/  packages of drivers that ask for some, by the digest of their lock
    <home>/state/         sessions and swaps (SQLite)
    <home>/run/           mode 0700: kernel.sock, kernel.lock, scratch/
    <home>/kernel.log     what a detached kernel printed

The home is ``--home``, else ``$BYENATOS_HOME``, else ``~/.byenatos``. Unix socket paths end at 107 bytes: a home whose
path is longer keeps its ``run`` folder under the temporary directory, named after the user and the home.
"""

import os
import stat
from pathlib import Path

from byenatos_sdk.protocol.errors import InvalidRequest, PermissionDenied

__all__ = ["Home"]

_LONGEST_SOCKET_PATH = 100


class Home:
    """The paths of one home; nothing is created before :meth:`create` is called.

    Raises:
        InvalidRequest: if its path begins with the home of a user who has none.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | Path | None = None) -> None:
        chosen = path or os.environ.get("BYENATOS_HOME") or "~/.byenatos"
        try:
            self.path = Path(chosen).expanduser().absolute()
        except RuntimeError:  # a user whom nobody knows, or no $HOME
            raise InvalidRequest(f"{chosen} leads to no folder; name another home (--home, BYENATOS_HOME)") from None

    @property
    def config(self) -> Path:
        """The operator's configuration file."""
        return self.path / "config.json"

    @property
    def models(self) -> Path:
        """The folder that model files are dropped into."""
        return self.path / "models"

    @property
    def plugins(self) -> Path:
        """The folder that plugin folders are dropped into."""
        return self.path / "plugins"

    @property
    def policies(self) -> Path:
        """The folder of the operator's own rules."""
        return self.path / "policies"

    @property
    def access(self) -> Path:
        """What the operator grants to drivers (optional)."""
        return self.policies / "access.toml"

    @property
    def trust(self) -> Path:
        """The folder of the publishers' keys and of what is revoked."""
        return self.policies / "trust"

    @property
    def operator_key(self) -> Path:
        """The operator's private key."""
        return self.path / "keys" / "operator.key"

    @property
    def warm_key(self) -> Path:
        """The key of hibernated sessions."""
        return self.path / "keys" / "warm.key"

    @property
    def warm(self) -> Path:
        """The folder of hibernated sessions."""
        return self.path / "state" / "warm"

    @property
    def signatures(self) -> Path:
        """The folder of what the operator signed: ``<plugin id>.sig``."""
        return self.path / "signatures"

    @property
    def store(self) -> Path:
        """The folder of the verified plugins."""
        return self.path / "store"

    @property
    def environments(self) -> Path:
        """The folder of the packages that drivers asked for."""
        return self.path / "environments"

    @property
    def database(self) -> Path:
        """The SQLite file with sessions and swaps."""
        return self.path / "state" / "kernel.db"

    @property
    def log(self) -> Path:
        """Where a detached kernel writes."""
        return self.path / "kernel.log"

    @property
    def run(self) -> Path:
        """The private folder of the socket and the lock."""
        usual = self.path / "run"
        if len(os.fsencode(usual / "kernel.sock")) <= _LONGEST_SOCKET_PATH:
            return usual
        import hashlib  # rarely needed, and heavy
        import tempfile

        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"byenatos-{os.getuid()}-{digest}"

    @property
    def scratch(self) -> Path:
        """Where running drivers have their private folders; emptied at each start."""
        return self.run / "scratch"

    @property
    def lock(self) -> Path:
        """Held by the running kernel; contains its process id."""
        return self.run / "kernel.lock"

    @property
    def socket(self) -> Path:
        """The socket that applications connect to."""
        return self.run / "kernel.sock"

    @property
    def endpoint(self) -> str:
        """The ZeroMQ address of :attr:`socket`."""
        return f"ipc://{self.socket}"

    def create(self) -> None:
        """Make the folders, ``run`` with mode 0700.

        Raises:
            PermissionDenied: if ``run`` belongs to another user or is a link.
            InvalidRequest: if the path is no text.
        """
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"expected a path in UTF-8, found {str(self.path)!a}") from None
        for folder in (self.models, self.plugins, self.database.parent, self.trust, self.signatures):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.store, self.operator_key.parent, self.environments):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.run.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PermissionDenied(f"{self.run}: expected a folder, found a link; remove it")
        if found.st_uid != os.getuid():
            raise PermissionDenied(f"{self.run}: expected a folder of user {os.getuid()}, found one of {found.st_uid}")
        self.run.chmod(0o700)
