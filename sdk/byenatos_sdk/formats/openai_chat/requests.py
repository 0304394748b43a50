"""Requests: for chats, and for completions, which continue a text as it stands."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from msgspec.structs import replace

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.openai_chat.messages import read_messages, write_messages
from byenatos_sdk.formats.openai_chat.own_fields import family_extra
from byenatos_sdk.formats.openai_chat.plain import read_plain
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.openai_chat.sampling import read_reasoning, read_sampling, write_sampling
from byenatos_sdk.formats.openai_chat.tools import (
    CUSTOM_TOOLS,
    read_format,
    read_tools,
    write_format,
    write_tools,
)
from byenatos_sdk.formats.wire import Decoded, Encoded, WireRequest, json_body, read_object
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Text

__all__ = ["MAX_CHOICES", "decode_request", "encode_request", "read_model"]

MAX_CHOICES = 128
"""Answers that one request may ask for."""
MAX_PROMPTS = 128
"""Texts that one request may have continued."""
_RAW_ONLY = ("suffix", "best_of")
_CANONICAL = {
    "chat_template_kwargs": frozenset({"enable_thinking", "reasoning_effort"}),
    "structured_outputs": frozenset({"json", "json_object"}),
}
"""What of a dialect's own objects has a canonical place; the rest of them goes through ``extra``."""


def encode_request(
    profile: Profile,
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request in a dialect; ``extra`` goes along where the dialect knows its names.

    Raises:
        InvalidRequest: the dialect cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    able = capabilities or profile.capabilities
    fitted, losses, stops, tools = adapt(request, able, strict=strict)
    body: dict[str, Any] = {"model": fitted.model}
    if fitted.raw:
        body["prompt"] = "".join(message.text for message in fitted.messages)
        body |= write_sampling(fitted.sampling, able, raw=True)
    else:
        body["messages"] = write_messages(fitted.messages, profile)
        body |= write_sampling(fitted.sampling, able)
        body |= write_tools(fitted)
        if fitted.response_format is not None:
            body["response_format"] = write_format(fitted.response_format)
        if fitted.reasoning is not None:
            body |= profile.reasoning(fitted.reasoning)
        if fitted.partial and able.prefill:
            body |= profile.continue_fields
    if fitted.metadata.get("end_user"):
        body["user"] = fitted.metadata["end_user"]
    if stream:
        body["stream"] = True
        if profile.usage_option:
            body["stream_options"] = {"include_usage": True}
    for name, value in family_extra(fitted.extra).items():
        if name in profile.extra or (fitted.raw and name in _RAW_ONLY):
            own = body.get(name)
            body[name] = value | own if isinstance(own, dict) and isinstance(value, dict) else body.get(name, value)
    path = f"{profile.root}/completions" if fitted.raw else f"{profile.root}/chat/completions"
    wire = WireRequest(path, json_body(body), {"content-type": "application/json"})
    return Encoded(wire, losses, stops, tools)


def read_model(request: Fields, path: str) -> str:
    """Return the model: the body's, or the deployment in an address of Azure's, or the default slot."""
    model = request.text("model")
    if model:
        return model
    _, marker, rest = path.partition("/deployments/")
    return unquote(rest.partition("/")[0]) if marker else "default"


def decode_request(profile: Profile, wire: WireRequest) -> Decoded:
    """Read a client's request; its path says whether it is a chat or a completion.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    plain = read_plain(wire)
    if plain is not None:
        return plain
    request = Fields(read_object(wire.body))
    path = wire.path.partition("?")[0].rstrip("/")
    raw = path.endswith("/completions") and not path.endswith("/chat/completions")
    choices = request.whole("n")
    if choices is not None and not 1 <= choices <= MAX_CHOICES:
        raise request.wrong("n", f"1 to {MAX_CHOICES}")
    options = request.inner("stream_options")
    usage = options is not None and bool(options.flag("include_usage") or options.flag("continuous_usage_stats"))
    end_user = request.text("safety_identifier") or request.text("user")
    about: Mapping[str, Any] = {} if raw else read_tools(request)
    names = profile.extra | profile.also_read
    names = (names | frozenset(_RAW_ONLY)) - {"echo"} if raw else names
    extra = _extra(request, names)
    first, *others = _prompts(request) if raw else [read_messages(request)]
    custom = [tool.need_inner("custom").need_text("name") for tool in request.objects("tools") if "custom" in tool]
    if custom:
        extra[CUSTOM_TOOLS] = custom
    asked = InferenceRequest(
        first,
        model=read_model(request, path),
        sampling=read_sampling(request),
        response_format=read_format(request),
        metadata={"end_user": end_user} if end_user else {},
        extra=kept(profile.name, extra),
        reasoning=read_reasoning(request),
        raw=raw,
        **about,
    )
    return Decoded(
        asked,
        stream=bool(request.flag("stream")),
        usage_in_stream=usage,
        choices=choices or 1,
        echo=raw and bool(request.flag("echo")),
        others=tuple(replace(asked, messages=other) for other in others),
        path=path,
        one_call="functions" in request and "tools" not in request,
    )


def _extra(request: Fields, names: frozenset[str]) -> dict[str, Any]:
    extra = {name: value for name, value in request.values.items() if name in names and value is not None}
    for name, known in _CANONICAL.items():
        inner = extra.get(name)
        if isinstance(inner, dict):
            extra[name] = {key: value for key, value in inner.items() if key not in known}
            if not extra[name]:
                del extra[name]
    return extra


def _prompts(request: Fields) -> list[tuple[Message, ...]]:
    """Read the texts that are to be continued; ids of tokens mean nothing to another model.

    Raises:
        InvalidRequest: there is none, or more than ``MAX_PROMPTS``.
    """
    prompt = request.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not 1 <= len(prompts) <= MAX_PROMPTS or not all(isinstance(one, str) for one in prompts):
        raise request.wrong("prompt", f"a text, or a list of 1 to {MAX_PROMPTS} (no ids of tokens)")
    return [(Message("user", (Text(one),)),) for one in prompts]
