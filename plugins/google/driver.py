"""Google's models."""

from byenatos_sdk.formats import gemini
from byenatos_sdk.http import HTTPDriver


class Google(HTTPDriver):
    """Gemini, by the Gemini API."""

    format = gemini
    base_url = "https://generativelanguage.googleapis.com"
