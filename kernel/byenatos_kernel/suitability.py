"""Suitability: can a model take over what is alive in a slot? Judged before a swap touches anything.

Alive are the requests that will move to the target or wait for it, and the conversations of the slot in which something
was said lately (``[swap] live_session_s``), whether or not they are being answered just now. Three things are compared:
how long they are with the target's context, whether there are images in them with the feature ``images``, and whether
they use tools with the feature ``tools``. What the target does not say of itself (no specification, a context of 0, no
features beside those of the runtime) cannot be held against it.

Length is counted by an instance, in tokens: the target's if it is loaded already, else the source's, whose tokens are
nearly as many. Where neither counts, or it would take too long, ``BYTES_PER_TOKEN`` bytes are taken for a token. None
is shorter than a byte, so that most conversations fit without being counted or even read.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from byenatos_kernel.instances import Instance
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.routes import Slot
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.frames import UNREADABLE, decode_request, encode
from byenatos_sdk.protocol.messages import (
    Image,
    InferenceRequest,
    Message,
    ModelSpecification,
    Part,
    Reasoning,
    SwapRequest,
    Text,
    TokenCount,
    ToolCall,
    ToolResult,
    assistant,
)
from byenatos_sdk.protocol.warm import WARM

__all__ = ["Suitability", "estimated_tokens"]

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 8
IMAGE_TOKENS = 1024
COUNT_S = 5.0
"""How long conversations are counted for, before the rest is estimated."""

SHOWN = 5
"""Conversations that a refusal names; of the others it has the number."""

_OF_THE_RUNTIME = frozenset({"continue", WARM})
_TOOLS_KEY = b"\xa5tools"
_decode_count = msgspec.msgpack.Decoder(TokenCount).decode


class Suitability:
    """Finds what stands against a swap."""

    def __init__(self, switchboard: Switchboard, policy: Callable[[], SwapPolicy]) -> None:
        self._sessions = switchboard.turns.sessions
        self._switchboard = switchboard
        self._policy = policy

    async def check(self, request: SwapRequest, slot: Slot, target: ModelEntry, loaded: Unit | None) -> str:
        """Return what a forced swap will cut, in words; nothing if nothing stands against it.

        ``loaded`` is the unit of the target, if it runs already.

        Raises:
            InvalidRequest: the target cannot take over what is alive, naming it, unless the swap is forced.
        """
        specification = target.specification or target.declared
        if specification is None or target.id == slot.model:
            return ""
        ready = (unit.ready for unit in (loaded, slot.unit) if unit is not None)
        counter = _Counter(next((one for one in ready if one is not None), None))
        limits = _Limits(specification, counter)
        found: dict[str, str] = {}
        requests = 0
        for stream in [one for one in self._switchboard.live if one.slot == slot.name and _comes(one, request)]:
            if reason := await self._of_stream(stream, limits):
                requests += stream.session is None
                who = f"session {stream.session!r}" if stream.session is not None else f"running request {requests}"
                found[who] = reason
        since = time.time() - self._policy().swap.live_session_s
        for one in await self._sessions.extents(slot.name, since):
            who = f"session {one.id!r}"
            if who in found or not limits.may_object(one.size_bytes, images=one.images, tools=one.tools):
                continue
            try:
                messages = tuple(turn.message for turn in (await self._sessions.show(one.id)).turns)
            except ByenatosError:
                continue  # it was removed just now
            if reason := await limits.objection(messages):
                found[who] = reason
        if not found:
            return ""
        shown = "; ".join(f"{who} {reason}" for who, reason in list(found.items())[:SHOWN])
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        if not request.force:
            raise InvalidRequest(
                f"{target.id} cannot take over what is alive in slot {slot.name!r}: {shown}{more}. With `force` "
                "(`byenatos swap --force`) it is swapped all the same, and these are cut off"
            )
        return f"forced, cutting off: {shown}{more}"

    async def _of_stream(self, stream: Stream, limits: "_Limits") -> str:
        body = stream.body
        images, tools = b"image" in body, _TOOLS_KEY in body or b"tool_call" in body
        if not limits.may_object(len(body) + stream.total, images=images, tools=tools):
            return ""
        try:
            request = decode_request(body)
        except UNREADABLE:
            return ""  # which its driver will tell
        said = (assistant(stream.text),) if stream.total else ()
        return await limits.objection((*request.messages, *said), tools=bool(request.tools))


def _comes(stream: Stream, request: SwapRequest) -> bool:
    """Whether a stream, or the next turn of its conversation, will be the target's."""
    if stream.state is StreamState.WAITING:
        return True
    running = stream.state is StreamState.RUNNING
    return running and (stream.session is not None or (request.strategy == "immediate" and not stream.bound))


class _Limits:
    """What a model takes, as far as it says so."""

    def __init__(self, specification: ModelSpecification, counter: "_Counter") -> None:
        known = specification.features - _OF_THE_RUNTIME
        self._model = specification.id
        self._context = max(specification.context_length, 0)
        self._images = not known or "images" in known
        self._tools = not known or "tools" in known
        self._counter = counter

    def may_object(self, size_bytes: int, *, images: bool, tools: bool) -> bool:
        """Whether a conversation has to be looked at, by what is known of it without reading it."""
        long = bool(self._context) and size_bytes >= self._context
        return long or (images and not self._images) or (tools and not self._tools)

    async def objection(self, messages: tuple[Message, ...], *, tools: bool = False) -> str:
        """Say why the model cannot take a conversation over; empty if it can."""
        reasons = []
        parts = [part for message in messages for part in message.parts]
        if not self._images and any(_images_in(part) for part in parts):
            reasons.append(f"has images, and {self._model} takes none")
        if not self._tools and (tools or any(isinstance(part, ToolCall | ToolResult) for part in parts)):
            reasons.append(f"uses tools, and {self._model} has none")
        if self._context and len(encode(messages)) >= self._context:
            count, how = await self._counter.count(messages)
            if count >= self._context:
                reasons.append(f"has {how}{count} tokens, and {self._model} takes {self._context}")
        return " and ".join(reasons)


class _Counter:
    """Counts tokens by ``instance``, as long as that answers and there is time."""

    def __init__(self, instance: Instance | None) -> None:
        self._instance = instance
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + COUNT_S

    async def count(self, messages: tuple[Message, ...]) -> tuple[int, str]:
        """Return how many tokens ``messages`` come to, and ``about`` if that is an estimate."""
        left_s = self._until - self._loop.time()
        if self._instance is not None and left_s > 0:
            try:
                body = encode(InferenceRequest(messages))
                found = _decode_count(await self._instance.call("count_tokens", body, timeout_s=left_s))
            except (ByenatosError, *UNREADABLE):
                self._instance = None
            else:
                return found.input_tokens, ""
        return estimated_tokens(messages), "about "


def estimated_tokens(messages: Iterable[Message]) -> int:
    """Guess how many tokens a conversation has: from its bytes, and a fixed number for each message and image."""
    size = count = images = 0
    for message in messages:
        count += 1
        for part in message.parts:
            images += _images_in(part)
            if isinstance(part, Text | ToolResult | Reasoning):
                size += len(part.text.encode())
            elif isinstance(part, ToolCall):
                size += len(part.arguments.encode())
    return size // BYTES_PER_TOKEN + count * MESSAGE_TOKENS + images * IMAGE_TOKENS


def _images_in(part: Part) -> int:
    return len(part.images) if isinstance(part, ToolResult) else int(isinstance(part, Image))
