"""What is asked of a model beside an answer: vectors, tokens and how many a request has, what its vendor offers.

The way is that of a request: a slot or a model leads to a unit, and the driver's instance is asked. What is asked and
what comes back are passed on unread; only whom it is for, and for how long, is looked at.
"""

import asyncio

import msgspec

from byenatos_kernel.instances import Instance
from byenatos_kernel.routes import Routes
from byenatos_kernel.sessions import SessionStore
from byenatos_sdk.protocol.control import Named
from byenatos_sdk.protocol.errors import DeadlineExceeded, InvalidRequest
from byenatos_sdk.protocol.frames import MAX_REPLY, UNREADABLE, decode_request, encode
from byenatos_sdk.protocol.messages import Value

__all__ = ["INQUIRIES", "Inquiries"]

INQUIRIES = {
    "embed": "embed",
    "count_tokens": "count_tokens",
    "tokenize": "tokenize",
    "detokenize": "detokenize",
    "vendor_models": "models",
}
"""The control methods that a driver answers, and what they are called there."""

DEFAULT_TIMEOUT_S = 600.0


class _Address(Value, frozen=True):
    """What the kernel reads of an inquiry."""

    model: str = "default"
    session: str | None = None
    timeout_s: float | None = None


_decode_address = msgspec.msgpack.Decoder(_Address).decode
_decode_named = msgspec.msgpack.Decoder(Named).decode


class Inquiries:
    """Asks drivers on behalf of clients."""

    def __init__(self, routes: Routes, sessions: SessionStore) -> None:
        self._routes = routes
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()

    async def ask(self, method: str, body: bytes) -> bytes:
        """Have the driver of the model that ``body`` names answer; returns the encoded result.

        Raises:
            InvalidRequest: the parameters cannot be read.
            NotFound, Unavailable: no instance can be asked.
            DeadlineExceeded: it took longer than ``timeout_s``.
            ByenatosError: what the driver says; ``Unsupported`` where it lacks the method.
        """
        try:
            if method == "vendor_models":
                address, body = _Address(_decode_named(body).name), b""
            else:
                address = _decode_address(body)
                if address.session is not None:
                    body = await self._with_transcript(address.session, body)
        except UNREADABLE as error:
            raise InvalidRequest(f"{method}: expected other parameters: {error}") from None
        unit, _ = self._routes.resolve(address.model)
        limit_s = address.timeout_s or unit.model.timeout_s or DEFAULT_TIMEOUT_S
        try:
            async with asyncio.timeout(limit_s):
                instance = await self._instance(address.model)
                return await instance.call(INQUIRIES[method], body, timeout_s=None, most=MAX_REPLY)
        except TimeoutError:
            raise DeadlineExceeded(f"{method}: {unit.model.id} did not answer within {limit_s:g} s") from None

    async def _instance(self, target: str) -> Instance:
        slot = self._routes.slots.get(target)
        while slot is not None and slot.queue is not None:
            await slot.queue.over.wait()
        unit, _ = self._routes.resolve(target)
        if unit.ready is not None:
            return unit.ready
        if unit.starting:
            return await unit.until_ready()
        raise unit.unavailable(self._loop.time())

    async def _with_transcript(self, session: str, body: bytes) -> bytes:
        """Put a session's turns before the messages, as for an answer, but store nothing."""
        request = decode_request(body)
        turns = (await self._sessions.show(session)).turns
        messages = (*(turn.message for turn in turns), *request.messages)
        return encode(msgspec.structs.replace(request, messages=messages))
