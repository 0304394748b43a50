"""The turns of sessions: what a stream that belongs to a conversation stores before it starts and before it ends.

A session is answered one turn at a time: two answers at once would each be blind to the other's question.
"""

from collections.abc import Iterable

import msgspec

from byenatos_kernel.sessions import SessionStore
from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.frames import UNREADABLE, decode_request, encode
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Message,
    Part,
    Reasoning,
    Terminal,
    Text,
    ToolCall,
)

__all__ = ["Turns", "check_session"]

LONGEST_ID = 128


def check_session(session: str) -> None:
    """Refuse what cannot be a session's id.

    Raises:
        InvalidRequest: it is one of those.
    """
    if not session or len(session) > LONGEST_ID or not session.isprintable():
        raise InvalidRequest(f"expected a session id of 1 to {LONGEST_ID} printable characters")


class Turns:
    """Which sessions are being answered, by which stream."""

    def __init__(self, sessions: SessionStore) -> None:
        self.sessions = sessions
        self._busy: dict[str, Stream] = {}

    def busy(self, session: str) -> bool:
        """Whether a turn of this session is under way."""
        return session in self._busy

    def claim(self, stream: Stream, session: str) -> InferenceRequest:
        """Take ``session`` for ``stream`` and read its request.

        Raises:
            InvalidRequest: the id or the request cannot be used, or the session is being answered.
        """
        check_session(session)
        if session in self._busy:
            raise InvalidRequest(f"session {session!r} is still being answered; wait for it or cancel it")
        try:
            request = decode_request(stream.body)
        except UNREADABLE as error:
            raise InvalidRequest(f"the request cannot be read: {error}") from None
        if not request.messages:
            raise InvalidRequest("expected at least one message")
        stream.session = session
        self._busy[session] = stream
        return request

    def release(self, stream: Stream) -> None:
        """The stream has ended: the session may be answered again."""
        if stream.session is not None and self._busy.get(stream.session) is stream:
            del self._busy[stream.session]

    async def begin(self, stream: Stream, request: InferenceRequest) -> None:
        """Make the user's turn durable and put the whole transcript into the stream's request.

        Raises:
            ByenatosError: it could not be stored.
        """
        assert stream.session is not None
        slot = stream.slot or stream.target
        transcript = await self.sessions.begin(stream.session, slot, stream.client.owner, request.messages)
        stream.body = encode(msgspec.structs.replace(request, messages=transcript, session=stream.session))

    async def finish(self, stream: Stream, terminal: Terminal) -> Terminal:
        """Make the assistant's turn durable; return the terminal to send, another one if it could not be stored."""
        assert stream.session is not None
        text = stream.text
        parts: tuple[Part, ...] = (*_joined(stream.parts), *([Text(text)] if text else []))
        partial = not isinstance(terminal, Finish)
        try:
            await self.sessions.finish(
                stream.session, Message("assistant", parts), model=stream.model, moves=stream.moves, partial=partial
            )
        except ByenatosError as error:
            return Failure(error.code, f"the answer could not be stored: {error}", partial=True)
        return terminal


def _joined(parts: Iterable[ToolCall | Reasoning]) -> list[Part]:
    """Make one part of each thought that came in pieces, whose last one carries the vendor's signature."""
    joined: list[Part] = []
    pieces: list[str] = []
    for part in parts:
        if isinstance(part, Reasoning):
            pieces.append(part.text)
            if part.signature is None and not part.redacted:
                continue
            joined.append(msgspec.structs.replace(part, text="".join(pieces)))
        else:
            if pieces:
                joined.append(Reasoning("".join(pieces)))
            joined.append(part)
        pieces.clear()
    if pieces:
        joined.append(Reasoning("".join(pieces)))
    return joined
