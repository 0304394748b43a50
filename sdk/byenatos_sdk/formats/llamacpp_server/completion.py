"""The server's own ``/completion``: a text is continued as it stands, without a chat template."""

from collections.abc import Iterable
from typing import Any

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.openai_chat.errors import STATUSES
from byenatos_sdk.formats.openai_chat.errors import encode_error as encode_chat_error
from byenatos_sdk.formats.openai_chat.own_fields import family_extra
from byenatos_sdk.formats.openai_chat.tools import schema_format
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Decoded, Reply, WireResponse, json_body
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceRequest,
    InferenceResponse,
    Logprobs,
    Message,
    Sampling,
    Text,
    TextDelta,
    TokenLogprob,
    Usage,
)

__all__ = ["CompletionEncoder", "as_chat", "completion_body", "encode_completion", "encode_error", "read_completion"]

_NAMES = {"max_tokens": "n_predict", "logprobs": "n_probs"}
"""Names that differ from those of the server's chats."""
_BANNED = -100.0
"""The bias of a token that ``false`` forbids."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


def completion_body(request: InferenceRequest, to: Capabilities, extra: frozenset[str]) -> dict[str, Any]:
    """Write a request; ``request`` is fitted to ``to`` already."""
    body: dict[str, Any] = {name: value for name, value in family_extra(request.extra).items() if name in extra}
    body["prompt"] = "".join(message.text for message in request.messages)
    if request.model != "default":
        body["model"] = request.model
    for name, limit in to.parameters.items():
        value = getattr(request.sampling, name)
        if value in (None, (), {}):
            continue
        wire = _NAMES.get(name, limit.wire)
        body[wire] = [[token, bias] for token, bias in value.items()] if name == "logit_bias" else value
    form = request.response_format
    if form is not None:
        schema = form["json_schema"].get("schema", {}) if form["type"] == "json_schema" else {"type": "object"}
        body["json_schema"] = schema
    return body


def _bias(fields: Fields) -> dict[int, float]:
    """Read biases, as pairs or as an object; those of texts mean nothing to another tokenizer."""
    found = fields.get("logit_bias")
    pairs = list(found.items()) if isinstance(found, dict) else fields.items("logit_bias")
    bias: dict[int, float] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise fields.wrong("logit_bias", "pairs of token and bias")
        token, value = pair
        number = int(token) if isinstance(token, str) and token.isascii() and token.isdigit() else token
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
            raise InvalidRequest(f"logit_bias: expected ids of tokens, found {str(token)[:40]!r}")
        if value is False:
            value = _BANNED
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6:
            raise InvalidRequest(f"logit_bias: expected a number for token {number}, found {str(value)[:40]!r}")
        bias[number] = value
    return bias


def _prompt(fields: Fields) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, dict) and "multimodal_data" not in prompt:
        prompt = prompt.get("prompt_string")
    if not isinstance(prompt, str):
        raise fields.wrong("prompt", "one text (send several as requests of their own; no ids of tokens, no media)")
    return prompt


def read_completion(fields: Fields, extra: frozenset[str]) -> Decoded:
    """Read a client's request.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    limit = fields.whole("n_predict")
    schema = fields.mapping("json_schema")
    sampling = Sampling(
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.whole("top_k"),
        min_p=fields.number("min_p"),
        max_tokens=limit if limit is not None and limit >= 0 else None,
        stop=fields.texts("stop"),
        seed=fields.whole("seed"),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
        repetition_penalty=fields.number("repeat_penalty"),
        logit_bias=_bias(fields),
        logprobs=fields.whole("n_probs") or None,
    )
    request = InferenceRequest(
        (Message("user", (Text(_prompt(fields)),)),),
        model=fields.text("model") or "default",
        sampling=sampling,
        response_format=None if schema is None else schema_format(schema),
        extra=kept("llamacpp_server", {name: fields.get(name) for name in extra}),
        raw=True,
    )
    return Decoded(request, stream=bool(fields.flag("stream")))


def as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Put an answer or a chunk of ``/completion`` into OpenAI's form; what is in that form already stays as it is."""
    if "choices" in body or not isinstance(body.get("stop"), bool):
        return body
    kind = body.get("stop_type")
    word = None
    if body["stop"]:
        # Older servers have a flag for each kind instead.
        limit = kind == "limit" or body.get("stopped_limit") is True
        word = "length" if limit else "stop"
        if limit and body.get("truncated") is True:
            word = "context_length"
    choice: dict[str, Any] = {"index": 0, "text": body.get("content"), "finish_reason": word}
    if kind == "word" or body.get("stopped_word") is True:
        choice["stop_reason"] = body.get("stopping_word")
    found = body.get("completion_probabilities")
    if isinstance(found, list):
        choice["logprobs"] = {"content": found}
    chat: dict[str, Any] = {"choices": [choice], "model": body.get("model")}
    if "tokens_evaluated" in body or "tokens_predicted" in body:
        timings = body.get("timings")
        cached = timings.get("cache_n") if isinstance(timings, dict) else None
        chat["usage"] = {
            "prompt_tokens": body.get("tokens_evaluated"),
            "completion_tokens": body.get("tokens_predicted"),
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    return chat


def _probabilities(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    return [
        {
            "id": -1,
            "token": one.token,
            "bytes": list(one.token.encode()),
            "logprob": one.logprob,
            "top_logprobs": [
                {"id": -1, "token": token, "bytes": list(token.encode()), "logprob": value} for token, value in one.top
            ],
        }
        for one in tokens
    ]


def _last(end: Finish | InferenceResponse, usage: Usage, model: str, content: str) -> dict[str, Any]:
    kind = "word" if end.stop_sequence else {"length": "limit"}.get(end.reason, "eos")
    body: dict[str, Any] = {
        "index": 0,
        "content": content,
        "tokens": [],
        "id_slot": -1,
        "stop": True,
        "model": model,
        "stop_type": kind,
        "stopping_word": end.stop_sequence or "",
        "truncated": end.detail == "context_length",
    }
    if usage.output_tokens is not None:
        body["tokens_predicted"] = usage.output_tokens
    if usage.input_tokens is not None:
        body["tokens_evaluated"] = usage.input_tokens
        body["timings"] = {"cache_n": usage.cached_tokens, "prompt_n": usage.input_tokens - usage.cached_tokens}
    return body


def encode_completion(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    body = _last(response, response.usage, reply.model, response.text)
    if response.logprobs:
        body["completion_probabilities"] = _probabilities(response.logprobs)
    return WireResponse(json_body(body), headers={"content-type": "application/json"})


def _status(code: str) -> int:
    """Return the status for an error; a body without codes needs one of its own for an account that is empty."""
    return 402 if code == "quota_exceeded" else STATUSES.get(code, 500)


def _problem(code: str, message: str) -> dict[str, Any]:
    status = _status(code)
    kind = "exceed_context_size_error" if code == "context_length_exceeded" else _TYPES.get(status, "server_error")
    return {"error": {"code": status, "message": message, "type": kind}}


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error as the server does: its code is the status."""
    wire = encode_chat_error(error)
    return WireResponse(json_body(_problem(error.code, error.message)), _status(error.code), wire.headers)


class CompletionEncoder:
    """Writes one answer's stream: chunks with ``content``, the last one with ``stop: true`` and the counts."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._over = False

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the bytes that say ``deltas``; a terminal closes the stream."""
        written: list[bytes] = []
        for delta in deltas:
            if self._over:
                break
            match delta:
                case TextDelta():
                    written += (
                        b'data: {"index":0,"content":',
                        json_body(delta.text),
                        b',"tokens":[],"stop":false}\n\n',
                    )
                case Logprobs():
                    found = {"index": 0, "content": "", "tokens": [], "stop": False}
                    written.append(event(json_body(found | {"completion_probabilities": _probabilities(delta.tokens)})))
                case Finish():
                    self._over = True
                    written.append(event(json_body(_last(delta, delta.usage, self._reply.model, ""))))
                case Failure():
                    self._over = True
                    written.append(event(json_body(_problem(delta.code, delta.message))))
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return a comment, as the server itself sends while it reads a long prompt."""
        return b":\n\n"
