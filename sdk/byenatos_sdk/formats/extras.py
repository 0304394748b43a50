"""A vendor's own parameters, kept in a request's ``extra`` for that vendor: what means nothing to the others.

``extra["format"]`` names the API format that they came in; another format's encoder leaves them alone, for names such
as ``tools`` or ``service_tier`` mean something else there. An application that fills ``extra`` itself need not set it:
it knows which vendor it talks to.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["FORMAT", "extras_for", "kept"]

FORMAT = "format"
"""The key under which the format stands that the others came in."""


def kept(format: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``found``, without what is absent, as the ``extra`` of a request that came in as ``format``."""
    present = {name: value for name, value in found.items() if value is not None}
    return {FORMAT: format, **present} if present else {}


def extras_for(format: str, extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of a request's ``extra`` the encoder of ``format`` may write."""
    return extra if extra.get(FORMAT, format) == format else {}
