"""Fetch a model's file from a URL, going on where an interrupted download stopped.

Resuming is safe only if the file has not changed meanwhile: the server's validator (a strong ETag, else Last-Modified)
is kept beside the part and sent as ``If-Range``. Without one, only a given SHA-256 can tell, and without that we start
over.
"""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from byenatos_kernel.cli.meter import Meter
from byenatos_kernel.cli.staging import CHUNK, Growing, Staging, digest_file
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, PermissionDenied, Unavailable
from byenatos_sdk.protocol.messages import Value

if TYPE_CHECKING:
    import httpx

__all__ = ["fetch_url", "file_name_in"]

_TIMEOUT_S = 60.0


class _Origin(Value, frozen=True):
    """Where a part came from."""

    url: str
    validator: str


def file_name_in(url: str) -> str:
    """Return the name of the file that ``url`` leads to; empty if it names none.

    Raises:
        InvalidRequest: if it is not a web address.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # half of an IPv6 address, a port beyond all
        known = False
    if not known:
        raise InvalidRequest(f"expected an address like https://host/model.gguf, found {url}")
    return Path(unquote(parts.path)).name


def fetch_url(url: str, staging: Staging, meter: Meter, *, sha256: str | None) -> str:
    """Download ``url`` to ``staging.part`` and return its SHA-256.

    Raises:
        Unavailable: if httpx is missing, or the server cannot be reached or breaks off (what came is kept).
        NotFound, PermissionDenied: as the server says.
    """
    try:
        import httpx
    except ImportError:
        raise Unavailable("pulling from a URL needs httpx; install it: pip install 'byenatos[http]'") from None

    host = urlsplit(url).hostname
    headers = {"Accept-Encoding": "identity", "User-Agent": "byenatos"} | _range_headers(url, staging, sha256)
    try:
        with (
            httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            return _receive(url, response, staging, meter)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        kept = "; what came is kept: run this again to go on" if staging.part.exists() else ""
        raise Unavailable(f"{host}: the download broke off: {str(error) or type(error).__name__}{kept}") from None


def _origin_file(staging: Staging) -> Path:
    return staging.folder / "origin.json"


def _range_headers(url: str, staging: Staging, sha256: str | None) -> dict[str, str]:
    if not staging.part.exists() or not (size_bytes := staging.part.stat().st_size):
        return {}
    try:
        origin = msgspec.json.decode(_origin_file(staging).read_bytes(), type=_Origin)
    except (OSError, msgspec.MsgspecError):
        return {}
    if origin.url != url or not (origin.validator or sha256):
        return {}
    condition = {"If-Range": origin.validator} if origin.validator else {}
    return {"Range": f"bytes={size_bytes}-"} | condition


def _receive(url: str, response: "httpx.Response", staging: Staging, meter: Meter) -> str:
    host = urlsplit(url).hostname
    if response.status_code == 416:
        if response.headers.get("Content-Range") == f"bytes */{staging.part.stat().st_size}":
            return digest_file(staging.part)  # nothing is missing: the last try ended just before the rename
        staging.part.unlink()
        raise Unavailable(f"{host}: the file has changed since the last try; run this again to fetch it anew")
    if response.status_code not in {200, 206}:
        kind = {401: PermissionDenied, 403: PermissionDenied, 404: NotFound}.get(response.status_code, Unavailable)
        found = f"{response.status_code} {response.reason_phrase}"
        raise kind(f"{host}: expected the file, found {found}; check the address")
    resumed = response.status_code == 206
    if resumed and not _continues(response, staging):
        staging.part.unlink()
        raise Unavailable(f"{host}: the server went on at the wrong place; run this again to fetch the file anew")
    length = int(response.headers.get("Content-Length", 0))
    total_bytes = length + (staging.part.stat().st_size if resumed else 0) if length else 0
    if not resumed:
        staging.part.unlink(missing_ok=True)
        _origin_file(staging).write_bytes(msgspec.json.encode(_Origin(url, _validator(response))))
    staging.reserve(length)
    meter.begin(f"{staging.destination.stem}: downloading", total_bytes)
    with Growing(staging.part, meter, resume=resumed) as part:
        for chunk in response.iter_bytes(CHUNK):
            part.write(chunk)
    if total_bytes and part.size_bytes != total_bytes:
        raise ByenatosError(f"{host}: expected {total_bytes} bytes, found {part.size_bytes}; run this again to go on")
    return part.sha256


def _validator(response: "httpx.Response") -> str:
    tag: str = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    modified: str = response.headers.get("Last-Modified", "")
    return modified


def _continues(response: "httpx.Response", staging: Staging) -> bool:
    found: str = response.headers.get("Content-Range", "")
    return found.startswith(f"bytes {staging.part.stat().st_size}-")
