"""Requests: a conversation goes to the chat route, a raw text to ``/generate`` or ``/generate_stream``.

TGI wants a temperature above 0 and a ``top_p`` below 1: what these bounds mean is said by leaving the parameter out.
"""

from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats.adapt import adapt, schema_of
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for, kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.huggingface_tgi.profile import CAPABILITIES, CHAT, NAME
from byenatos_sdk.formats.openai_chat.tools import schema_format
from byenatos_sdk.formats.wire import Decoded, Encoded, WireRequest, json_body, read_object
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Sampling, Text

__all__ = ["decode_request", "encode_request"]

EXTRA = frozenset({
    "typical_p", "truncate", "watermark", "best_of", "do_sample", "decoder_input_details", "adapter_id", "details",
    "return_full_text",
})  # fmt: skip
"""Parameters without a canonical place: they travel in ``extra`` under their own names."""

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
"""The schema that stands for JSON of any kind: TGI knows schemas only."""
_WHOLE = frozenset({"max_tokens", "top_k", "seed", "logprobs"})


# ---- outward ---------------------------------------------------------------------------------------------------


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request for the chat route, or for ``/generate`` where the prompt is raw.

    TGI leaves a stop sequence in the text: ``stops`` are there to be cut by whoever reads.

    Raises:
        InvalidRequest: the format cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    if request.raw:
        return _encode_prompt(request, capabilities or CAPABILITIES, stream=stream, strict=strict)
    said = replace(request, response_format=_value_form(request), sampling=_without_neutral(request.sampling))
    encoded = CHAT.encode_request(said, stream=stream, strict=strict, capabilities=capabilities)
    return replace(encoded, stops=_stops(request.sampling, encoded.stops))


def _stops(sampling: Sampling, unsayable: tuple[str, ...]) -> tuple[str, ...]:
    """Return all stop sequences, those that are said first."""
    return (*(stop for stop in sampling.stop if stop not in unsayable), *unsayable)


def _without_neutral(sampling: Sampling) -> Sampling:
    """Leave out a ``top_p`` of 1, which is refused; a temperature of 0 is understood here."""
    return replace(sampling, top_p=None) if sampling.top_p == 1 else sampling


def _value_form(request: InferenceRequest) -> dict[str, Any] | None:
    """Return the answer's form as TGI wants it: a schema, whatever kind of JSON is asked for."""
    form = request.response_format
    if form is None or form.get("type") not in {"json_object", "json_schema"}:
        return form
    schema = schema_of(form)
    return {"type": "json_object", "value": _ANY_OBJECT if schema is None else schema}


def _encode_prompt(request: InferenceRequest, to: Capabilities, *, stream: bool, strict: bool) -> Encoded:
    fitted, losses, unsayable, tools = adapt(request, to, strict=strict)
    extra = extras_for(NAME, fitted.extra)
    parameters: dict[str, Any] = {"details": True, "return_full_text": False}
    for name, limit in CAPABILITIES.parameters.items():
        value = getattr(fitted.sampling, name)
        if value not in (None, ()) and value != limit.omit_at:
            parameters[limit.wire] = value
    if fitted.sampling.temperature == 1:  # by itself it would not switch sampling on
        parameters["do_sample"] = True
    if fitted.response_format is not None:
        schema = schema_of(fitted.response_format)
        parameters["grammar"] = {"type": "json", "value": _ANY_OBJECT if schema is None else schema}
    elif isinstance(extra.get("grammar"), dict):
        parameters["grammar"] = extra["grammar"]
    parameters |= {name: value for name, value in extra.items() if name in EXTRA} | {"details": True}
    prompt = "".join(message.text for message in fitted.messages)
    body = {"inputs": prompt, "parameters": parameters, "stream": stream}
    path = "/generate_stream" if stream else "/generate"
    wire = WireRequest(path, json_body(body), {"content-type": "application/json"})
    return Encoded(wire, losses, _stops(fitted.sampling, unsayable), tools)


# ---- inward ----------------------------------------------------------------------------------------------------


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request: one with ``inputs`` continues a text, every other one is a chat or a completion.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    path = wire.path.partition("?")[0].rstrip("/")
    body = Fields(read_object(wire.body))
    if "inputs" not in body and path.rpartition("/")[2] not in {"generate", "generate_stream", ""}:
        choice = body.get("tool_choice")
        if isinstance(choice, str) and choice not in {"auto", "none", "required"}:  # a function, by its name alone
            named = {**body.values, "tool_choice": {"function": {"name": choice}}}
            wire = replace(wire, body=json_body(named))
        decoded = CHAT.decode_request(wire)
        form = _form_of(decoded.request.response_format)
        return replace(decoded, path=path, request=replace(decoded.request, response_format=form))
    parameters = body.inner("parameters") or Fields({}, "parameters")
    extra = {name: parameters.values[name] for name in EXTRA if name in parameters}
    grammar = parameters.inner("grammar")
    if grammar is not None and grammar.text("type") == "regex":
        extra["grammar"] = dict(grammar.values)
    request = InferenceRequest(
        (Message("user", (Text(body.need_text("inputs")),)),),
        model=body.text("model") or "default",
        sampling=_sampling(parameters),
        response_format=_grammar(grammar),
        extra=kept(NAME, extra),
        raw=True,
    )
    stream = path.endswith("/generate_stream") or (not path.endswith("/generate") and bool(body.flag("stream")))
    return Decoded(request, stream=stream, path=path)


def _sampling(parameters: Fields) -> Sampling:
    values: dict[str, Any] = {}
    for name, limit in CAPABILITIES.parameters.items():
        if name in _WHOLE:
            values[name] = parameters.whole(limit.wire)
        elif name != "stop":
            number = parameters.number(limit.wire)
            values[name] = None if number is None else float(number)
    return Sampling(stop=parameters.texts("stop") or parameters.texts("stop_sequences"), **values)


def _grammar(grammar: Fields | None) -> dict[str, Any] | None:
    """Read the grammar of an answer that is to be JSON."""
    if grammar is None:
        return None
    kind = grammar.need_text("type")
    if kind == "regex":
        return None
    if kind in {"json", "json_object"}:
        return _form_of(schema_format(dict(grammar.need_inner("value").values)))
    if kind == "json_schema":
        value = grammar.need_inner("value")
        return schema_format(value.mapping("schema") or {}, value.text("name") or "answer")
    raise grammar.wrong("type", "json, json_schema or regex")


def _form_of(form: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return JSON of any kind as that: it came as the schema of any object."""
    schema = schema_of(form)
    return {"type": "json_object"} if schema in ({}, _ANY_OBJECT) else form
