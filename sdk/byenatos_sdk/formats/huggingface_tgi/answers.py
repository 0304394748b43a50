"""Whole answers and streams, both ways. How an answer looks depends on the path that was asked.

The ids of tokens, and the log probabilities that nobody asked for, are not known here: they are 0 and ``null``.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.contract import StreamDecoder as StreamDecoderProtocol
from byenatos_sdk.formats.contract import StreamEncoder as StreamEncoderProtocol
from byenatos_sdk.formats.failures import body_of
from byenatos_sdk.formats.huggingface_tgi.errors import error_body
from byenatos_sdk.formats.huggingface_tgi.profile import CHAT
from byenatos_sdk.formats.ndjson import in_lines
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body
from byenatos_sdk.protocol.answer import error_from
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceResponse,
    Logprobs,
    TextDelta,
    TokenLogprob,
)

__all__ = ["StreamEncoder", "decode_response", "encode_response", "stream_decoder", "stream_encoder"]

_encode = msgspec.json.Encoder().encode


def continues(reply: Reply) -> bool:
    """Say whether the client asked to continue a text by TGI's own path."""
    asked = reply.asked
    return asked is not None and asked.request.raw and not asked.path.endswith("/completions")


def finish_reason(finish: Finish) -> str:
    """Return TGI's word for an answer's end."""
    if finish.reason == "length":
        return "length"
    return "stop_sequence" if finish.detail == "stop_sequence" else "eos_token"


def prompt_of(reply: Reply) -> str:
    """Return the text before the answer's, where the client wants it back."""
    asked = reply.asked
    if asked is None or asked.request.extra.get("return_full_text") is not True:
        return ""
    return "".join(message.text for message in asked.request.messages)


def token(text: str, logprob: float | None = None, *, special: bool = False) -> dict[str, Any]:
    """Return a token."""
    return {"id": 0, "text": text, "logprob": None if logprob is None else max(-9999.0, logprob), "special": special}


def top_tokens(one: TokenLogprob) -> list[dict[str, Any]]:
    """Return a token's alternatives."""
    return [token(text, logprob) for text, logprob in one.top]


# ---- whole answers ---------------------------------------------------------------------------------------------


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer, of a chat or of a text that was continued; hosted models put the latter into a list.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    body = body_of(wire)
    if wire.status < 400 and isinstance(body, list) and len(body) == 1 and isinstance(body[0], dict):
        wire = WireResponse(json_body(body[0]), wire.status, wire.headers)
    return CHAT.decode_response(wire)


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer in the form of the path that was asked."""
    if not continues(reply):
        return CHAT.encode_response(response, reply)
    assert reply.asked is not None
    body: dict[str, Any] = {"generated_text": prompt_of(reply) + response.text}
    if reply.asked.request.extra.get("details") is True or response.logprobs:
        finish = Finish(response.reason, response.usage, detail=response.detail)
        body["details"] = {
            "finish_reason": finish_reason(finish),
            "generated_tokens": response.usage.output_tokens,
            "seed": response_seed(reply),
            "prefill": [],
            "tokens": [token(one.token, one.logprob) for one in response.logprobs],
        }
        if response.logprobs:
            body["details"]["top_tokens"] = [top_tokens(one) for one in response.logprobs]
    return WireResponse(json_body(body), 200, {"content-type": "application/json"})


def response_seed(reply: Reply) -> int | None:
    """Return the seed that was asked for."""
    return None if reply.asked is None else reply.asked.request.sampling.seed


# ---- streams ---------------------------------------------------------------------------------------------------


class StreamEncoder:
    """Writes the stream of ``/generate_stream``: an event for each piece of text, the last one with the whole text."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        self._prompt = prompt_of(reply)
        self._seed = response_seed(reply)
        self._text: list[str] = []
        self._index = 0

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the events that say ``deltas``; log probabilities are said where they come right behind their text."""
        written: list[bytes] = []
        deltas = list(deltas)
        for at, delta in enumerate(deltas):
            if isinstance(delta, TextDelta):
                self._text.append(delta.text)
                following = deltas[at + 1] if at + 1 < len(deltas) else None
                if isinstance(following, Logprobs) and self._same(delta, following):
                    written += (self._event(token(one.token, one.logprob), top_tokens(one)) for one in following.tokens)
                else:
                    self._index += 1
                    written += (
                        b'data:{"index":%d,"token":{"id":0,"text":' % self._index,
                        _encode(delta.text),
                        b',"logprob":null,"special":false},"generated_text":null,"details":null}\n\n',
                    )
            elif isinstance(delta, Finish):
                written.append(self._finish(delta))
            elif isinstance(delta, Failure):
                _, body = error_body(error_from(delta), in_stream=True)
                written.append(b"data:" + body + b"\n\n")
        return in_lines(b"".join(written))

    def keep_alive(self) -> bytes:
        """Return a comment, as TGI's own server sends it."""
        return b":\n\n"

    def _same(self, delta: TextDelta, logprobs: Logprobs) -> bool:
        return "".join(one.token for one in logprobs.tokens) == delta.text

    def _event(self, said: dict[str, Any], top: list[dict[str, Any]] | None = None, **last: Any) -> bytes:
        self._index += 1
        body: dict[str, Any] = {"index": self._index, "token": said}
        if top:
            body["top_tokens"] = top
        return b"data:" + _encode(body | {"generated_text": None, "details": None} | last) + b"\n\n"

    def _finish(self, finish: Finish) -> bytes:
        details = {
            "finish_reason": finish_reason(finish),
            "generated_tokens": finish.usage.output_tokens,
            "input_length": finish.usage.input_tokens,
            "seed": self._seed,
        }
        whole = self._prompt + "".join(self._text)
        return self._event(token("", special=True), generated_text=whole, details=details)


class _ChatEncoder:
    """Writes the chat route's stream: as OpenAI's, but errors are TGI's, and no line is split by what a text holds."""

    def __init__(self, reply: Reply) -> None:
        self._chat = CHAT.stream_encoder(reply)
        self.content_type = self._chat.content_type

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        deltas = list(deltas)
        failure = next((delta for delta in deltas if isinstance(delta, Failure)), None)
        if failure is None:
            return in_lines(self._chat.encode(deltas))
        _, body = error_body(error_from(failure), in_stream=True)
        return in_lines(self._chat.encode(deltas[: deltas.index(failure)]) + event(body))

    def keep_alive(self) -> bytes:
        return self._chat.keep_alive()


def stream_decoder(*, choice: int = 0) -> StreamDecoderProtocol:
    """Return a decoder for one stream, of a chat or of a text that is continued."""
    return CHAT.stream_decoder(choice=choice)


def stream_encoder(reply: Reply) -> StreamEncoderProtocol:
    """Return an encoder for one stream, in the form of the path that was asked."""
    return StreamEncoder(reply) if continues(reply) else _ChatEncoder(reply)
