"""The front ``http``: applications speak to the kernel by the HTTP APIs of the vendors that they were written for.

The parts: ``connection`` speaks HTTP/1.1 (by httptools), ``guard`` says who may ask, ``routes`` which handler answers,
``answering`` asks the kernel, ``verbs`` and the vendors' modules know the APIs, ``management`` the kernel's own.
"""

import asyncio
import socket
import sys
from typing import Any

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.front import Front
from byenatos_sdk.protocol.errors import InvalidRequest
from http_front import console, google
from http_front.answering import Answering
from http_front.anthropic import Anthropic
from http_front.application import Application
from http_front.clients import Client
from http_front.conversations import Conversations
from http_front.guard import Guard
from http_front.huggingface import HuggingFace
from http_front.limits import Limits
from http_front.llamacpp import LlamaCpp
from http_front.management import Management
from http_front.meter import Meter
from http_front.metrics import Metrics
from http_front.models import Models
from http_front.ollama import Ollama
from http_front.openai import OpenAI
from http_front.responses import Responses
from http_front.routes import Routes
from http_front.server import Server
from http_front.verbs import Verbs

__all__ = ["Http"]

ACCEPTS_PER_TURN = 32
ACCEPT_AGAIN_S = 0.2


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[settings]`` of the manifest, with the operator's laid over, and what the kernel adds (see ``Front``)."""

    hosts: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()
    worker: int = 1
    limits: Limits = Limits()


class Http(Front):
    """One worker."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        try:
            self._settings = msgspec.convert(settings, _Settings)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"fronts.http.settings: {error}") from None
        self._listener: socket.socket | None = None
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, listener: socket.socket, kernel: AsyncClient) -> None:
        """Accept from ``listener`` from now on."""
        routes = Routes()
        verbs = Verbs(Answering(kernel), Models(kernel))
        OpenAI(verbs).enter(routes)
        Responses(verbs).enter(routes)
        Conversations(verbs).enter(routes)
        Anthropic(verbs).enter(routes)
        google.enter(routes, verbs)
        Ollama(verbs).enter(routes)
        self._loop = asyncio.get_running_loop()
        HuggingFace(verbs).enter(routes)
        LlamaCpp(verbs).enter(routes)
        console.enter(routes)
        meter = Meter(Application(routes, Guard(self._settings.clients, self._settings.hosts), kernel))
        Management(kernel, meter, self._settings.worker).enter(routes)
        Metrics(kernel, meter, self._settings.worker).enter(routes)
        self._server = Server(meter, self._settings.limits)
        self._listener = listener
        self._loop.add_reader(listener, self._accept)

    async def stop(self) -> None:
        """Accept nothing more and let what is answered now come to its end."""
        if self._listener is not None and self._server is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            await self._server.drain()

    def _resume(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        assert self._server is not None
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is left: look again when some may have been closed
                print(f"accepting: {error}", file=sys.stderr)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(ACCEPT_AGAIN_S, self._resume)
                return
            connected.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._server.protocol, connected))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
