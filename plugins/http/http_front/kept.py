"""Answers that clients go on from by their id: what was asked and answered, as sessions of the kernel.

Any worker finds them, and they outlive all of them. A client's request and its answer are kept as they were sent, in
the API's own words, so that what follows is read as if the client had sent everything itself.
"""

from typing import Any

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.protocol.errors import NotFound
from byenatos_sdk.protocol.messages import InferenceRequest, InferenceResponse

__all__ = ["Keeper", "Kept"]


class Kept(msgspec.Struct, frozen=True):
    """``request`` holds the whole conversation before ``answer``; ``owner`` is whose it is, empty without keys."""

    api: str
    owner: str
    request: dict[str, Any]
    answer: dict[str, Any]


_decode = msgspec.json.Decoder(Kept).decode


class Keeper:
    """Keeps the answers of one API, whose name is ``api``."""

    def __init__(self, kernel: AsyncClient, api: str) -> None:
        self._kernel = kernel
        self._api = api

    async def keep(
        self, asked: InferenceRequest, request: dict[str, Any], response: InferenceResponse, body: bytes, owner: str
    ) -> None:
        """Keep an answer under its own id."""
        answer = msgspec.json.decode(body)
        note = msgspec.json.encode(Kept(self._api, owner, request, answer))
        turns = (*asked.messages, response.message)
        await self._kernel.keep_session(answer["id"], turns, slot=asked.model, note=note)

    async def find(self, id: str, owner: str) -> Kept:
        """Return what is kept under ``id``.

        Raises:
            NotFound: there is nothing, or it is somebody else's.
        """
        try:
            kept = _decode((await self._kernel.transcript(id)).note)
        except (NotFound, msgspec.DecodeError):  # the second: a session of another kind
            kept = None
        if kept is None or (kept.api, kept.owner) != (self._api, owner):
            raise NotFound(f"{id[:80]!r} is not kept here")
        return kept

    async def forget(self, id: str, owner: str) -> None:
        """Forget what is kept under ``id``.

        Raises:
            NotFound: there is nothing, or it is somebody else's.
        """
        await self.find(id, owner)
        await self._kernel.remove_session(id)
