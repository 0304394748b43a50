"""A vLLM server's model."""

from byenatos_sdk.formats import vllm
from byenatos_sdk.http import HTTPDriver


class Vllm(HTTPDriver):
    """By vLLM's dialect of Chat Completions."""

    format = vllm
    base_url = "http://localhost:8000"
