"""Models by way of Hugging Face."""

from byenatos_sdk.formats import huggingface_tgi
from byenatos_sdk.http import HTTPDriver


class HuggingFace(HTTPDriver):
    """Chat Completions as the router and text-generation-inference speak them, and raw text at the latter."""

    format = huggingface_tgi
    base_url = "https://router.huggingface.co"
