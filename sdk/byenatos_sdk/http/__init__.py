"""Drivers of vendors that speak HTTP: a class with a format and an address; keys and TLS are the broker's affair."""

from byenatos_sdk.http.driver import HTTPDriver
from byenatos_sdk.http.settings import HTTPSettings

__all__ = ["HTTPDriver", "HTTPSettings"]
