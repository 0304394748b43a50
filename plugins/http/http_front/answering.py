"""From a client's request to an answer in its own format: read, ask the kernel, write.

Until the first delta has come nothing is sent, so that an early failure has its status; only when that takes long does
the stream begin with a sign of life. A stream that breaks off ends as its format's clients detect it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

from msgspec.structs import replace

from byenatos_sdk.client import AsyncClient, AsyncStream
from byenatos_sdk.formats.contract import Format, StreamEncoder
from byenatos_sdk.formats.wire import Decoded, Reply
from byenatos_sdk.protocol.answer import Answer, error_from
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, InferenceRequest, InferenceResponse
from http_front.exchange import Request, Response, Stream, of_wire

__all__ = ["Answering", "new_id"]

FIRST_S = 15.0
"""How long nothing is sent before the first delta: then the stream begins without it."""
KEEP_ALIVE_S = 15.0
MOST_CHOICES = 8
_UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_PRIVACY = ("any", "local")


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess, in the vendors' style."""
    return f"{prefix}{secrets.token_hex(12)}"


class Answering:
    """Answers inference requests of all formats with one kernel."""

    def __init__(self, kernel: AsyncClient) -> None:
        self.kernel = kernel

    async def answer(
        self, request: Request, format: Format, *, prefix: str, decoded: Decoded | None = None
    ) -> Response | Stream:
        """Answer ``request``, which is in ``format``; ids begin with ``prefix``. ``decoded``: it was read already.

        Raises:
            ByenatosError: nothing was sent yet, and it is the answer.
        """
        decoded = decoded if decoded is not None else format.decode_request(request.wire)
        asked = self.shaped(request, decoded.request)
        reply = Reply(new_id(prefix), asked.model, int(time.time()), replace(decoded, request=asked))
        if decoded.stream:
            if decoded.choices > 1:
                raise InvalidRequest(f"n: expected 1 answer in a stream, found {decoded.choices}; ask several times")
            return await self.stream(asked, format.stream_encoder(reply))
        if decoded.choices > 1:
            return await self._choices(asked, format, reply, decoded.choices)
        response = await self.whole(asked)
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
        request.check_model(slot or asked.model)
        if session := headers.get("x-byenatos-session"):
            changes["session"] = request.client.own_session(session)
        if task := headers.get("x-byenatos-task"):
            changes["task"] = task
        if privacy := headers.get("x-byenatos-privacy"):
            if privacy not in _PRIVACY:
                raise InvalidRequest(f"x-byenatos-privacy: expected any or local, found {privacy!r}")
            changes["privacy"] = privacy
        return replace(asked, **changes) if changes else asked

    async def whole(self, asked: InferenceRequest) -> InferenceResponse:
        """Return a whole answer; raises the error that it ended with."""
        answer = Answer()
        async with self.kernel.stream(asked) as stream:
            while deltas := await stream.several():
                for delta in deltas:
                    answer.add(delta)
        return answer.response()

    async def stream(self, asked: InferenceRequest, encoder: StreamEncoder) -> Stream:
        """Return the answer in pieces, once it has begun.

        Raises:
            ByenatosError: it failed before anything came.
        """
        stream = self.kernel.stream(asked)
        try:
            first = await _within(FIRST_S, stream)
        except BaseException:
            await stream.aclose()
            raise
        if first and isinstance(first[0], Failure):
            raise error_from(first[0])
        return Stream(_pieces(stream, first, encoder), encoder.content_type, _UNBUFFERED)

    async def _choices(self, asked: InferenceRequest, format: Format, reply: Reply, count: int) -> Response:
        """Ask several times at once; each answer counts its own tokens."""
        encode = getattr(format, "encode_choices", None)
        if encode is None or count > MOST_CHOICES:
            raise InvalidRequest(f"n: expected at most {MOST_CHOICES if encode else 1} answers, found {count}")
        tries = []
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                sampling = asked.sampling
                seed = None if sampling.seed is None else sampling.seed + number
                tries.append(group.create_task(self.whole(replace(asked, sampling=replace(sampling, seed=seed)))))
        return of_wire(encode([one.result() for one in tries], reply))


async def _within(seconds: float, stream: AsyncStream) -> list[Delta]:
    """Wait for deltas, but not longer than ``seconds``: then nothing is returned, and nothing is lost."""
    try:
        async with asyncio.timeout(seconds):
            return await stream.several()
    except TimeoutError:
        return []


async def _pieces(stream: AsyncStream, first: list[Delta], encoder: StreamEncoder) -> AsyncIterator[bytes]:
    ended = False
    try:
        deltas = first
        while not ended:
            yield encoder.encode(deltas) if deltas else encoder.keep_alive()
            ended = bool(deltas) and isinstance(deltas[-1], Finish | Failure)
            if not ended:
                deltas = await _within(KEEP_ALIVE_S, stream)
    except ByenatosError as error:
        yield encoder.encode([_failure(error)])
    finally:
        await stream.aclose()


def _failure(error: ByenatosError) -> Failure:
    return Failure(error.code, error.message, error.retry_after_s, partial=True)
