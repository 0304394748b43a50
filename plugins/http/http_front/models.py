"""What a client may ask for by name: slots first, then models; kept for a moment, for clients list them often."""

import asyncio

from msgspec.structs import replace

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.protocol.errors import NotFound
from byenatos_sdk.protocol.messages import ModelSpecification
from http_front.clients import EVERYBODY, Client

__all__ = ["Models"]

KEPT_S = 1.0


class Models:
    """The kernel's slots and models as specifications. A slot is described by what is plugged into it."""

    def __init__(self, kernel: AsyncClient) -> None:
        self._kernel = kernel
        self._listed: list[ModelSpecification] = []
        self._listed_at = float("-inf")

    async def listed(self, client: Client = EVERYBODY) -> list[ModelSpecification]:
        """Return everything that ``client`` can ask now, slots before models."""
        now = asyncio.get_running_loop().time()
        if now - self._listed_at > KEPT_S:
            slots, models = await asyncio.gather(self._kernel.slots(), self._kernel.models())
            usable = {
                model.id: model.specification or ModelSpecification(model.id, model.driver)
                for model in models
                if model.state == "available"
            }
            plugged = [
                replace(usable.get(slot.model) or ModelSpecification(slot.model), id=slot.name)
                for slot in slots
                if slot.model
            ]
            names = {slot.id for slot in plugged}
            self._listed = [*plugged, *(one for one in usable.values() if one.id not in names)]
            self._listed_at = now
        return [one for one in self._listed if client.may_name(one.id)] if client.slots else self._listed

    async def find(self, name: str, client: Client = EVERYBODY) -> ModelSpecification:
        """Return one of what ``client`` can ask.

        Raises:
            NotFound: there is none of that name.
        """
        listed = await self.listed(client)
        for one in listed:
            if one.id == name:
                return one
        raise NotFound(f"model {name!r} does not exist; there is {', '.join(one.id for one in listed) or 'none'}")
