"""The model of llama.cpp's server."""

from byenatos_sdk.formats import llamacpp_server
from byenatos_sdk.http import HTTPDriver


class LlamaServer(HTTPDriver):
    """By its dialect of Chat Completions."""

    format = llamacpp_server
    base_url = "http://localhost:8080"
