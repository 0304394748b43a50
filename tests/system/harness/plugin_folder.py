"""Plugin folders for tests, written as an author would drop them into ``<home>/plugins``."""

from byenatos_sdk.home import Home

__all__ = ["COUNTING", "write_plugin"]

COUNTING = """
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        for number in range(10):
            yield f"{number} "
"""
"""A driver without a fault."""


def write_plugin(
    home: Home,
    id: str,
    code: str = COUNTING,
    *,
    protocol: str = "[1]",
    entry: str = "plugin:Plugin",
    import_timeout_s: float = 30.0,
    start_timeout_s: float = 30.0,
    model_files: str = "[]",
    models: bool = True,
    permissions: str = "",
    extra: str = "",
    more: dict[str, str] | None = None,
) -> str:
    """Write a plugin folder with one model called as the plugin is, and move it into place at once; returns its id.

    ``permissions`` are further lines of that table, ``extra`` those of ``[lifecycle]`` and what comes after it,
    ``more`` further files by name.
    """
    home.plugins.mkdir(parents=True, exist_ok=True)
    folder = home.path / f"{id}.written"
    folder.mkdir()
    (folder / "plugin.py").write_text(code)
    for name, text in (more or {}).items():
        (folder / name).write_text(text)
    manifest = f"""
[plugin]
id = "{id}"
version = "1"
entry = "{entry}"
protocol = {protocol}

[permissions]
model_files = {model_files}
{permissions}

[lifecycle]
import_timeout_s = {import_timeout_s}
start_timeout_s = {start_timeout_s}
{extra}
"""
    if models:
        manifest += f'\n[[models]]\nid = "{id}"\n'
    (folder / "plugin.toml").write_text(manifest)
    folder.rename(home.plugins / id)
    return id
