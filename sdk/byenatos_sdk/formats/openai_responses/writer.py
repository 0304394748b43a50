"""Write one answer's stream of events.

Every event has a number, every item an index, every text is said again whole when it ends, and the last event has the
whole answer: what OpenAI's own helpers need to build on. A token still costs only the encoding of its text.
"""

from collections.abc import Iterable
from typing import Any

from byenatos_sdk.formats.openai_chat.tools import custom_names
from byenatos_sdk.formats.openai_responses.items import NAME
from byenatos_sdk.formats.openai_responses.responses import (
    call_item,
    ended,
    failed_object,
    item_id,
    message_item,
    reasoning_item,
    response_object,
    status_of,
    token_objects,
)
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Reply, json_body
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)

__all__ = ["StreamEncoder"]


class StreamEncoder:
    """Writes one answer's stream."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._custom = custom_names(reply)
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._open = ""
        self._id = ""
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._before = b""
        self._begun = False
        self._over = False

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the bytes that say ``deltas``; the first call also opens the stream, a terminal closes it."""
        if self._over:
            return b""
        written: list[bytes] = []
        if not self._begun:
            self._begun = True
            for kind in ("response.created", "response.in_progress"):
                self._event(written, kind, {"response": response_object(self._reply)})
        deltas = list(deltas)
        last = deltas[-1] if deltas else None
        refused = isinstance(last, Finish) and last.detail == "refusal" and not self._said()
        for delta in deltas:
            if isinstance(delta, TextDelta):
                self._enter("refusal" if refused else "output_text", written)
                self._piece(delta.text, b',"logprobs":[]' if self._open == "output_text" else b"", written)
            else:
                self._other(delta, written)
                if isinstance(delta, Finish | Failure):
                    break
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return a comment, which clients of this format skip."""
        return b": keep-alive\n\n"

    def _said(self) -> bool:
        """Say whether any text went out already, as what it then must stay."""
        return self._open == "output_text" or any(item["type"] == "message" for item in self._output)

    def _event(self, written: list[bytes], kind: str, body: dict[str, Any]) -> None:
        written.append(event(json_body({"type": kind} | body | {"sequence_number": self._number}), kind))
        self._number += 1

    def _piece(self, text: str, more: bytes, written: list[bytes]) -> None:
        self._texts.append(text)
        written += (self._before, json_body(text), b'%b,"sequence_number":%d}\n\n' % (more, self._number))
        self._number += 1

    def _place(self) -> dict[str, Any]:
        place: dict[str, Any] = {"item_id": self._id, "output_index": len(self._output)}
        return place | {"summary_index" if self._open == "reasoning" else "content_index": 0}

    def _enter(self, kind: str, written: list[bytes]) -> None:
        """Begin an item for text, a refusal or thoughts, unless one is open; another one ends."""
        if self._open == kind:
            return
        self._close(written)
        self._open = kind
        at = len(self._output)
        if kind == "reasoning":
            self._id = item_id(self._reply, "rs", at)
            item: dict[str, Any] = {"id": self._id, "type": "reasoning", "summary": []}
            part: dict[str, Any] = {"type": "summary_text", "text": ""}
            names = ("response.reasoning_summary_part.added", "response.reasoning_summary_text.delta")
        else:
            self._id = item_id(self._reply, "msg", at)
            item = message_item(self._id, "", status="in_progress") | {"content": []}
            part = message_item(self._id, "", refused=kind == "refusal")["content"][0]
            names = ("response.content_part.added", f"response.{kind}.delta")
        self._event(written, "response.output_item.added", {"output_index": at, "item": item})
        self._event(written, names[0], self._place() | {"part": part})
        head = json_body({"type": names[1]} | self._place())[:-1]
        self._before = b'event: %b\ndata: %b,"delta":' % (names[1].encode(), head)

    def _close(self, written: list[bytes], status: str = "completed", signature: str | None = None) -> None:
        """End the open item: say its text again, whole."""
        if not self._open:
            return
        text, place = "".join(self._texts), self._place()
        tokens = tuple(self._logprobs)
        if self._open == "reasoning":
            part: dict[str, Any] = {"type": "summary_text", "text": text}
            self._event(written, "response.reasoning_summary_text.done", place | {"text": text})
            self._event(written, "response.reasoning_summary_part.done", place | {"part": part})
            item = reasoning_item(self._id, text, signature)
        elif self._open == "refusal":
            item = message_item(self._id, text, refused=True)
            self._event(written, "response.refusal.done", place | {"refusal": text})
            self._event(written, "response.content_part.done", place | {"part": item["content"][0]})
        else:
            item = message_item(self._id, text, status=status, logprobs=tokens)
            said = {"text": text, "logprobs": token_objects(tokens)}
            self._event(written, "response.output_text.done", place | said)
            self._event(written, "response.content_part.done", place | {"part": item["content"][0]})
        self._done(item, written)
        self._open, self._texts, self._logprobs = "", [], []

    def _done(self, item: dict[str, Any], written: list[bytes]) -> None:
        self._event(written, "response.output_item.done", {"output_index": len(self._output), "item": item})
        self._output.append(item)

    def _other(self, delta: Delta, written: list[bytes]) -> None:
        match delta:
            case ReasoningDelta():
                self._think(delta, written)
            case ToolCallDelta():
                self._close(written)
                self._call(delta, written)
            case Logprobs():
                self._enter("output_text", written)
                self._logprobs += delta.tokens
                self._piece("", b',"logprobs":' + json_body(token_objects(delta.tokens)), written)
            case Finish():
                self._finish(delta, written)
            case Failure():
                self._over = True
                self._close(written, "incomplete")
                body = failed_object(self._reply, self._output, delta.code, delta.message)
                self._event(written, "response.failed", {"response": body})

    def _think(self, delta: ReasoningDelta, written: list[bytes]) -> None:
        signature = delta.signature if delta.source in {"", NAME} else None
        if delta.text:
            self._enter("reasoning", written)
            self._piece(delta.text, b"", written)
        if signature is not None and self._open == "reasoning":
            self._close(written, signature=signature)
        elif signature is not None:
            self._close(written)
            item = reasoning_item(item_id(self._reply, "rs", len(self._output)), "", signature)
            added = {"output_index": len(self._output), "item": item}
            self._event(written, "response.output_item.added", added)
            self._done(item, written)

    def _call(self, call: ToolCallDelta, written: list[bytes]) -> None:
        at = len(self._output)
        custom = call.name in self._custom
        item = call_item(item_id(self._reply, "fc", at), call, custom=custom)
        place = {"item_id": item["id"], "output_index": at}
        kind, field = ("custom_tool_call_input", "input") if custom else ("function_call_arguments", "arguments")
        begun = item | ({"input": ""} if custom else {"arguments": "", "status": "in_progress"})
        self._event(written, "response.output_item.added", {"output_index": at, "item": begun})
        self._event(written, f"response.{kind}.delta", place | {"delta": item[field]})
        whole = {field: item[field]} if custom else {"name": call.name, field: item[field]}
        self._event(written, f"response.{kind}.done", place | whole)
        self._done(item, written)

    def _finish(self, finish: Finish, written: list[bytes]) -> None:
        self._over = True
        end = (finish.reason, finish.detail)
        if finish.detail == "refusal":
            if not self._said() and self._open != "refusal":
                self._enter("refusal", written)
            if self._open != "refusal":  # it was said as text before it was known to be a refusal
                end = (finish.reason, "")
        status, _ = status_of(*end)
        self._close(written, status)
        body = ended(self._reply, self._output, end, finish.usage)
        self._event(written, f"response.{status}", {"response": body})
