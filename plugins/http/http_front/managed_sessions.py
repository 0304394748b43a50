"""Conversations in the management API: what is stored of them, moving them to another model, forgetting them."""

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.wire import read_as
from byenatos_sdk.protocol.control import Empty, SessionTranscript
from byenatos_sdk.protocol.messages import SessionInfo, SessionMove, Value
from http_front.exchange import Request, Response, json_response
from http_front.operations import ROOT, Operation, get, post

__all__ = ["ManagedSessions", "SessionOrder"]


class SessionOrder(Value, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Have ``model`` answer a conversation from now on, whatever its slot is swapped to; empty: its slot again.

    It moves when what is being answered has ended, or ``now``, in the middle of it.
    """

    model: str = ""
    now: bool = False


_session_order = msgspec.json.Decoder(SessionOrder)


class ManagedSessions:
    """Its handlers."""

    def __init__(self, kernel: AsyncClient) -> None:
        self._kernel = kernel
        self.operations = (
            get("/sessions", "listSessions", "The stored conversations.", self._list, list[SessionInfo]),
            get("/sessions/{session...}", "showSession", "A conversation with all of its turns.",
                self._show, SessionTranscript, may_fail=(404,)),
            post("/sessions/{session...}/move", "moveSession", "Have another model answer a conversation, or its slot "
                 "again; the answer comes once it has moved, and says how.",
                 self._move, SessionOrder, SessionMove, may_fail=(404, 504)),
            Operation("DELETE", f"{ROOT}/sessions/{{session...}}", "removeSession", "Forget a conversation.",
                      self._remove, gives=Empty, may_fail=(400, 404)),
        )  # fmt: skip

    async def _list(self, _: Request) -> Response:
        return json_response(await self._kernel.sessions())

    async def _show(self, request: Request) -> Response:
        return json_response(await self._kernel.transcript(request.parameters["session"]))

    async def _move(self, request: Request) -> Response:
        order, session = read_as(_session_order, request.body), request.parameters["session"]
        if order.model:
            return json_response(await self._kernel.move_session(session, order.model, now=order.now))
        return json_response(await self._kernel.move_session_back(session, now=order.now))

    async def _remove(self, request: Request) -> Response:
        await self._kernel.remove_session(request.parameters["session"])
        return json_response(Empty())
