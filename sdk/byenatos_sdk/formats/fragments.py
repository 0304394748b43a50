"""Tool calls from the pieces in which vendors stream them, put together and handed on whole.

What vendors do differently: fragments of parallel calls interleave (OpenAI); id and name come in the first fragment
only, or in every one, or blank in the later ones (DashScope, Tencent); there is no index and a new id begins a new
call (Meta); every call has index 0 and is told apart by its id (several servers that speak OpenAI's format);
arguments come as an object (Ollama).
"""

from io import StringIO
from typing import Any

from byenatos_sdk.formats.wire import json_body
from byenatos_sdk.protocol.errors import UpstreamFailed
from byenatos_sdk.protocol.messages import ToolCallDelta

__all__ = ["MAX_ARGUMENTS", "MAX_CALLS", "CallFragments", "arguments_text", "invented_id"]

MAX_ARGUMENTS = 4 << 20
"""Characters of all arguments in one answer that are kept."""
MAX_CALLS = 1024
"""Calls in one answer."""


def invented_id(position: int, name: str) -> str:
    """Return the id of a call that came without one: the same for the same answer, whenever it is read."""
    return f"call_{position}_{name}"


def arguments_text(arguments: Any) -> str:
    """Return a call's arguments as JSON text; nothing is an empty object, and text that is no JSON stays as it is."""
    if arguments is None or arguments == "":
        return "{}"
    return arguments if isinstance(arguments, str) else json_body(arguments).decode()


class _Call:
    __slots__ = ("arguments", "free", "id", "name", "signature")

    def __init__(self) -> None:
        self.free = False
        self.id = ""
        self.name = ""
        self.arguments = StringIO()  # compact, however small the pieces are
        self.signature: str | None = None


class CallFragments:
    """The calls of one answer."""

    __slots__ = ("_at", "_calls", "_size")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(
        self,
        index: Any,
        call_id: Any = None,
        name: Any = None,
        arguments: Any = None,
        signature: str | None = None,
        *,
        free: bool = False,
    ) -> None:
        """Add a fragment as it stands on the wire; what is of the wrong type counts as missing.

        ``free``: the arguments are free text (OpenAI's custom tools), which becomes ``{"input": …}``.

        Raises:
            UpstreamFailed: there are more calls or longer arguments than the limits say.
        """
        known = call_id if isinstance(call_id, str) else ""
        name = name if isinstance(name, str) else ""
        call = self._call(index, known, name)
        call.id = call.id or known
        call.name = call.name or name
        call.signature = call.signature or signature
        call.free = free
        if arguments is None or arguments == "":
            return
        text = arguments_text(arguments)
        self._size += len(text)
        if self._size > MAX_ARGUMENTS:
            raise UpstreamFailed(f"stream: expected at most {MAX_ARGUMENTS} characters of arguments, found more")
        call.arguments.write(text)

    def _call(self, index: Any, call_id: str, name: str) -> _Call:
        if isinstance(index, int):
            call = self._at.get(index)
            another = call is not None and call_id and name and call.id and call_id != call.id
        else:
            call = self._calls[-1] if self._calls else None
            another = call is not None and call_id and call_id != call.id
        if call is not None and not another:
            return call
        if len(self._calls) >= MAX_CALLS:
            raise UpstreamFailed(f"stream: expected at most {MAX_CALLS} calls in one answer, found more")
        call = _Call()
        self._calls.append(call)
        if isinstance(index, int):
            self._at[index] = call
        return call

    @staticmethod
    def _arguments(call: _Call) -> str:
        text = call.arguments.getvalue()
        return arguments_text({"input": text} if call.free else text)

    def take(self) -> list[ToolCallDelta]:
        """Return the calls, in the order in which they began, and forget them."""
        calls = [
            ToolCallDelta(
                call.id or invented_id(position, call.name),
                call.name,
                self._arguments(call),
                call.signature,
            )
            for position, call in enumerate(self._calls)
        ]
        self._calls, self._at = [], {}
        return calls
