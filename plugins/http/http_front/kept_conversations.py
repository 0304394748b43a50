"""OpenAI's conversations, each a session of the kernel: its items, as they were sent and answered, and what they mean.

Any worker finds one, and several may add to it at the same time: it is written in the place of what was read, and read
again where another was faster.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats import openai_responses
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import Message
from http_front.answering import new_id
from http_front.items import in_full

__all__ = ["Conversation", "ConversationKeeper"]

_KIND = "openai_conversations"
_PREFIXES = {"message": "msg_", "function_call": "fc_", "function_call_output": "fco_", "reasoning": "rs_"}


class Conversation(msgspec.Struct, frozen=True):
    """``items`` as they are listed, the earliest first; ``owner`` is whose it is, empty without keys."""

    id: str
    owner: str
    created_at: int
    metadata: dict[str, str] = {}
    items: tuple[dict[str, Any], ...] = ()
    kind: str = _KIND

    def with_items(self, items: Iterable[Mapping[str, Any]]) -> "Conversation":
        """Return it with more items; those without an id of their own are given one."""
        taken = {item["id"] for item in self.items}
        added: list[dict[str, Any]] = []
        for item in items:
            full = in_full(item, new_id(_PREFIXES.get(item.get("type") or "message", "item_")))
            if not isinstance(full["id"], str) or full["id"] in taken:
                full["id"] = new_id(_PREFIXES.get(full["type"], "item_"))
            taken.add(full["id"])
            added.append(full)
        return replace(self, items=(*self.items, *added))

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said in it.

        Raises:
            InvalidRequest: an item is wrong; the message says where.
        """
        return openai_responses.read_items(Fields(item, f"items[{at}]") for at, item in enumerate(self.items))


_decode = msgspec.json.Decoder(Conversation).decode


class ConversationKeeper:
    """Keeps them."""

    def __init__(self, kernel: AsyncClient) -> None:
        self._kernel = kernel

    async def begin(self, conversation: Conversation) -> None:
        """Keep a new one.

        Raises:
            InvalidRequest: an item is wrong.
        """
        note = msgspec.json.encode(conversation)
        await self._kernel.keep_session(conversation.id, conversation.messages, slot="default", note=note)

    async def find(self, id: str, owner: str) -> Conversation:
        """Return one.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        return (await self._look(id, owner))[0]

    async def change(
        self, id: str, owner: str, change: Callable[[Conversation], Conversation], *, slot: str = ""
    ) -> Conversation:
        """Change one as ``change`` says, which may be asked again, and return it; ``slot`` is who answered in it.

        Raises:
            InvalidRequest: an item is wrong.
            NotFound: there is none, or it is somebody else's.
        """
        while True:
            found, updated_at, was = await self._look(id, owner)
            changed = change(found)
            note, turns = msgspec.json.encode(changed), changed.messages
            try:
                await self._kernel.keep_session(id, turns, slot=slot or was, note=note, replaces=updated_at)
            except InvalidRequest:
                if (await self._look(id, owner))[1] == updated_at:  # it was not another who was faster
                    raise
            else:
                return changed

    async def add(self, id: str, owner: str, items: Sequence[Mapping[str, Any]], *, slot: str = "") -> Conversation:
        """Add items to one, and return it."""
        return await self.change(id, owner, lambda found: found.with_items(items), slot=slot)

    async def forget(self, id: str, owner: str) -> None:
        """Forget one.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        await self.find(id, owner)
        await self._kernel.remove_session(id)

    async def _look(self, id: str, owner: str) -> tuple[Conversation, float, str]:
        """Return one, when it was changed last, and its slot."""
        try:
            transcript = await self._kernel.transcript(id)
            found = _decode(transcript.note)
        except (NotFound, msgspec.DecodeError):  # the second: a session of another kind
            found = None
        if found is None or (found.kind, found.owner) != (_KIND, owner):
            raise NotFound(f"conversation {id[:80]!r} is not kept here")
        return found, transcript.info.updated_at, transcript.info.slot
