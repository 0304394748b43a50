"""From a client's request to an answer in its own format: read, ask the kernel, write.

Until the first delta has come nothing is sent, so that an early failure has its status; only when that takes long does
the stream begin with a sign of life. A stream that breaks off ends as its format's clients detect it.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator

from msgspec.structs import replace

from byenatos_sdk.client import AsyncClient, AsyncStream
from byenatos_sdk.formats.contract import ChoicesFormat, ChoicesStreamFormat, Format, StreamEncoder
from byenatos_sdk.formats.wire import Decoded, Reply
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, InferenceResponse
from http_front.bounds import check_bounds
from http_front.choices import Choices
from http_front.exchange import Request, Response, Stream, of_wire
from http_front.pieces import Ended, Pieces

__all__ = ["Answering", "new_id"]

MOST_CHOICES = 128
"""Answers to one request, which run at the same time."""
_UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_SWITCH = {"true": True, "1": True, "false": False, "0": False}
_PRIVACY = ("any", "local")
_ANY_MODEL = frozenset({"dummy", "tgi"})
"""What Hugging Face's client says where it was told no model, and what it is told to say to a server of one model."""

Keep = Callable[[InferenceResponse, bytes], Awaitable[None]]


def _random(digits: int = 24, at_once: int = 128) -> Iterator[str]:
    """Yield hexadecimal digits that nobody can guess; the system is asked for many of them at once."""
    while True:
        drawn = secrets.token_hex(digits * at_once // 2)
        for start in range(0, len(drawn), digits):
            yield drawn[start : start + digits]


_drawn = _random()


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess, in the vendors' style."""
    return prefix + next(_drawn)


class Answering:
    """Answers inference requests of all formats with one kernel."""

    def __init__(self, kernel: AsyncClient) -> None:
        self.kernel = kernel

    async def answer(
        self,
        request: Request,
        format: Format,
        *,
        prefix: str,
        decoded: Decoded | None = None,
        said: InferenceRequest | None = None,
        keep: Keep | None = None,
        timed: bool = False,
    ) -> Response | Stream:
        """Answer ``request``, which is in ``format``; ids begin with ``prefix``. ``decoded``: it was read already.

        ``said`` is what of it the answer says again, where that is not what the model is asked; ``keep`` is handed
        the whole answer, and the body that says it, before the client sees its end. ``timed``: it tells times.

        Raises:
            ByenatosError: nothing was sent yet, and it is the answer.
        """
        decoded = decoded if decoded is not None else format.decode_request(request.wire)
        check_bounds(format, decoded.request, request.body, whole="x-byenatos-session" not in request.headers)
        asked = self.shaped(request, decoded.request)
        answered = said or asked
        told = decoded if answered is decoded.request else replace(decoded, request=answered)
        reply = Reply(new_id(prefix), asked.model, int(time.time()), told, time.monotonic() if timed else 0.0)
        if decoded.choices > 1 or decoded.others:
            return await self._several(request, format, reply, decoded)

        async def ended(response: InferenceResponse) -> None:
            assert keep is not None
            await keep(response, format.encode_response(response, reply).body)

        if decoded.stream:
            stream = self.kernel.stream(asked)
            return await _begun(stream, format.stream_encoder(reply), None if keep is None else ended)
        if timed:
            response, begun_s = await self._timed(asked)
            reply = replace(reply, begun_s=begun_s)
        else:
            response = await self.whole(asked)
        if keep is not None:
            await ended(response)
        return of_wire(format.encode_response(response, reply))

    def shaped(self, request: Request, asked: InferenceRequest) -> InferenceRequest:
        """Lay over ``asked`` what the vendors' shapes cannot say and our headers can.

        Raises:
            InvalidRequest: a header says what cannot be.
            PermissionDenied: whoever asks may not name that slot or model.
        """
        headers = request.headers
        changes: dict[str, object] = {}
        if slot := headers.get("x-byenatos-slot"):
            changes["model"] = slot
        elif asked.model in _ANY_MODEL:
            changes["model"] = "default"
        request.check_model(str(changes.get("model", asked.model)))
        if session := headers.get("x-byenatos-session"):
            changes["session"] = request.client.own_session(session)
        if task := headers.get("x-byenatos-task"):
            changes["task"] = task
        if privacy := headers.get("x-byenatos-privacy"):
            if privacy not in _PRIVACY:
                raise InvalidRequest(f"x-byenatos-privacy: expected any or local, found {privacy!r}")
            changes["privacy"] = privacy
        if strict := headers.get("x-byenatos-strict"):
            if strict not in _SWITCH:
                raise InvalidRequest(f"x-byenatos-strict: expected true or false, found {strict!r}")
            changes["strict"] = _SWITCH[strict]
        return replace(asked, **changes) if changes else asked

    async def whole(self, asked: InferenceRequest) -> InferenceResponse:
        """Return a whole answer; raises the error that it ended with."""
        stream = self.kernel.stream(asked)
        try:
            return await stream.response()
        except BaseException:
            await stream.aclose()
            raise

    async def _timed(self, asked: InferenceRequest) -> tuple[InferenceResponse, float]:
        """Return a whole answer, and when it began; raises the error that it ended with."""
        stream = self.kernel.stream(asked)
        try:
            await anext(stream)
            begun_s = time.monotonic()
            return await stream.response(), begun_s
        except BaseException:
            await stream.aclose()
            raise

    async def _several(self, request: Request, format: Format, reply: Reply, decoded: Decoded) -> Response | Stream:
        """Ask for several answers at once: to each of the request's texts, as many as there are to be choices."""
        texts = [self.shaped(request, one) for one in (decoded.request, *decoded.others)]
        count = len(texts) * decoded.choices
        most = MOST_CHOICES if isinstance(format, ChoicesStreamFormat if decoded.stream else ChoicesFormat) else 1
        if count > most:
            raise InvalidRequest(f"n: expected at most {most} answers to one such request, found {count}")
        asked = [_seeded(one, number) for one in texts for number in range(decoded.choices)]
        if isinstance(format, ChoicesStreamFormat) and decoded.stream:
            choices = Choices([self.kernel.stream(one) for one in asked], format.choices_encoder(reply, count))
            return await _begun(choices, choices)
        assert isinstance(format, ChoicesFormat)
        try:
            async with asyncio.TaskGroup() as group:
                tries = [group.create_task(self.whole(one)) for one in asked]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return of_wire(format.encode_choices([one.result() for one in tries], reply))


def _seeded(asked: InferenceRequest, number: int) -> InferenceRequest:
    """Return the request for one of several choices: with one seed for all, they would be the same."""
    seed = asked.sampling.seed
    return asked if seed is None else replace(asked, sampling=replace(asked.sampling, seed=seed + number))


async def _begun(stream: AsyncStream | Choices, encoder: StreamEncoder, ended: Ended | None = None) -> Stream:
    """Return the answer in pieces, once it has begun; raises what ended it before."""
    pieces = Pieces(stream, encoder, ended)
    await pieces.begin()
    return Stream(pieces, encoder.content_type, _UNBUFFERED)
