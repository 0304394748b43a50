"""A publisher of plugins, as a kernel knows him: his key, and folders that he signed."""

import datetime as dt
from pathlib import Path

from plugin_folder import write_plugin

from byenatos_kernel.operator_key import sign_folder
from byenatos_sdk.home import Home
from byenatos_sdk.signing import format_public_key, make_keys

__all__ = ["SAYING", "Publisher"]

SAYING = """
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        yield {saying}
"""
"""A driver that answers with an expression."""


class Publisher:
    """Has a key in ``folder`` and signs for ``home``, whose kernel trusts him if ``trusted``."""

    def __init__(self, home: Home, folder: Path, name: str = "acme", *, trusted: bool = True) -> None:
        self.home = home
        self.keys = make_keys(folder / f"{name}.key", name, dt.date(2090, 1, 1))
        home.create()
        if trusted:
            (home.trust / f"{name}.pub").write_text(format_public_key(self.keys.public))

    def write(self, id: str, saying: str, *, at: Home, version: str = "1", files: dict[str, str] | None = None) -> Path:
        """Write a signed folder into another home, from where a test moves it into place."""
        write_plugin(at, id, SAYING.format(saying=saying))
        folder = at.plugins / id
        manifest = folder / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('version = "1"', f'version = "{version}"'))
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self.sign(folder)
        return folder

    def sign(self, folder: Path) -> None:
        """Sign a folder as it is now."""
        (folder / "plugin.sig").write_bytes(sign_folder(folder, self.keys)[1])
