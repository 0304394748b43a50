"""The console: a page for people, at ``/``. Its files lie beside the plugin's code and are read once.

The page brings nothing from elsewhere and may run nothing but its own scripts; it holds no secret, so everybody may
load it, and what it shows it asks the management API for, with the key that its user types in.
"""

from pathlib import Path

from byenatos_sdk.formats import openai_chat
from http_front.exchange import Request, Response
from http_front.routes import Handler, Routes

__all__ = ["enter"]

FOLDER = Path(__file__).resolve().parent.parent / "console"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def enter(routes: Routes) -> None:
    """Enter the page and what it consists of."""
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            address = "/" if path.name == "index.html" else f"/console/{path.name}"
            routes.add("GET", address, _file(path.read_bytes(), _TYPES[path.suffix]), openai_chat, "open")


def _file(content: bytes, content_type: str) -> Handler:
    async def handle(_: Request) -> Response:
        return Response(content, 200, content_type, _HEADERS)

    return handle
