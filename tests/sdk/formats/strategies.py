"""Canonical values that a format can express, drawn at random: what its row of the matrix allows, and nothing else.

Values are in the form in which decoders give them: no empty texts, tools' results in one message, each with the name
of the call that it answers, signatures only where the format sends them back.
"""

from typing import Any

from hypothesis import strategies as st

from byenatos_sdk.formats.capabilities import Capabilities, Limit
from byenatos_sdk.formats.wire import json_body
from byenatos_sdk.protocol.messages import (
    Audio,
    Delta,
    File,
    Finish,
    Image,
    InferenceRequest,
    InferenceResponse,
    Logprobs,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)

__all__ = [
    "deltas",
    "json_objects",
    "json_values",
    "odd_objects",
    "requests",
    "responses",
    "texts",
    "tool_calls",
    "usages",
]

texts = st.text(min_size=1, max_size=20)
"""Text of any characters, those that libraries take for line ends among them."""
names = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True).map(lambda text: "call_" + text)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
json_values = _json
"""Any JSON."""
json_objects = st.dictionaries(st.text(max_size=8), _json, max_size=3)
_odd = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
_schemas = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(names, st.just({"type": "string"}), max_size=2)}
)
tools = st.builds(Tool, names, st.just("") | texts, _schemas, st.none() | st.booleans())
_urls = names.map(lambda name: f"https://example.com/{name}.png")


def odd_objects(*fields: str, **shapes: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects in which each of the fields is missing, or odd, or of its shape if it has one; or something else."""
    optional = dict.fromkeys(fields, _odd) | {name: _odd | shape for name, shape in shapes.items()}
    return _odd | st.fixed_dictionaries({}, optional=optional)


_arguments = json_objects.map(lambda value: json_body(value).decode())


def tool_calls(*, signatures: bool = False) -> st.SearchStrategy[ToolCall]:
    """Draw calls with arguments in the form that an encoder of objects gives them."""
    signature = st.none() | texts if signatures else st.none()
    return st.builds(ToolCall, ids, names, _arguments, signature)


def _media(to: Capabilities) -> st.SearchStrategy[Part]:
    kinds: list[st.SearchStrategy[Part]] = [texts.map(Text)]
    data = st.binary(min_size=1, max_size=8)
    if "data" in to.images:
        kinds.append(st.builds(Image, st.sampled_from(["image/png", "image/jpeg"]), data))
    if "url" in to.images:
        kinds.append(st.builds(Image, url=_urls))
    if to.audio:
        kinds.append(st.builds(Audio, data, st.sampled_from(["audio/wav", "audio/mpeg"])))
    if "data" in to.files:
        kinds.append(st.builds(File, names.map(lambda name: name + ".pdf"), st.just("application/pdf"), data))
    return st.one_of(kinds)


@st.composite
def _exchange(draw: st.DrawFn, to: Capabilities) -> list[Message]:
    """Draw calls of tools and their results, in any order."""
    calls = draw(
        st.lists(tool_calls(signatures=to.format == "gemini"), min_size=1, max_size=3, unique_by=lambda call: call.id)
    )
    said = draw(st.lists(texts.map(Text), max_size=1))
    results = draw(
        st.permutations(
            [
                ToolResult(call.id, draw(st.text(max_size=8)), to.tool_errors and draw(st.booleans()), call.name)
                for call in calls
            ]
        )
    )
    return [Message("assistant", (*said, *calls)), Message("tool", tuple(results))]


@st.composite
def conversations(draw: st.DrawFn, to: Capabilities) -> tuple[Message, ...]:
    """Draw a conversation that needs no adaptation; it ends with the user or with tools' results."""
    systems = draw(st.lists(texts.map(lambda text: Message("system", (Text(text),))), max_size=2))
    messages = systems[:1] if to.system == "first" else systems
    for turn in range(draw(st.integers(0, 2))):
        parts = draw(st.lists(_media(to), min_size=1, max_size=3))
        messages.append(Message("user", tuple(parts)))
        if to.tools and draw(st.booleans()):
            messages += draw(_exchange(to))
        messages.append(Message("assistant", (Text(draw(texts)),)))
        if turn and to.system == "anywhere" and draw(st.booleans()):
            messages.append(Message("system", (Text(draw(texts)),)))
    messages.append(Message("user", (Text(draw(texts)),)))
    return tuple(messages)


def _number(limit: Limit, *, whole: bool) -> st.SearchStrategy[Any]:
    low = -10.0 if limit.low is None else limit.low
    high = low + 100 if limit.high is None else limit.high
    if whole:
        return st.integers(int(low) + limit.low_open, int(high) - limit.high_open)
    return st.floats(low, high, exclude_min=limit.low_open, exclude_max=limit.high_open)


@st.composite
def samplings(draw: st.DrawFn, to: Capabilities) -> Sampling:
    """Draw parameters within their limits."""
    chosen: dict[str, Any] = {}
    for name, limit in to.parameters.items():
        if limit.raw_only or (limit.required is None and draw(st.booleans())):
            continue
        if name == "stop":
            length = 10 if limit.length is None else limit.length
            stops = st.lists(st.text(min_size=1, max_size=length), max_size=limit.items or 4, unique=True)
            chosen[name] = tuple(draw(stops))
        elif name == "logit_bias":
            chosen[name] = draw(st.dictionaries(st.integers(0, 10**5), st.integers(-100, 100), max_size=2))
        else:
            whole = name in {"max_tokens", "top_k", "seed", "logprobs"}
            value = draw(_number(limit, whole=whole))
            if value != limit.omit_at:
                chosen[name] = value
    return Sampling(**chosen)


@st.composite
def requests(draw: st.DrawFn, to: Capabilities) -> InferenceRequest:
    """Draw a request that ``to`` can say without any loss."""
    offered = tuple(draw(st.lists(tools, max_size=2, unique_by=lambda tool: tool.name))) if to.tools else ()
    choices = [choice for choice in ("auto", "none", "required") if choice in to.tool_choices]
    if "named" in to.tool_choices and offered:
        choices.append(offered[0].name)
    forms: list[dict[str, Any] | None] = [None]
    if "json_object" in to.outputs:
        forms.append({"type": "json_object"})
    if "json_schema" in to.outputs:
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        forms.append({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
    return InferenceRequest(
        draw(conversations(to)),
        model=draw(names),
        sampling=draw(samplings(to)),
        tools=offered,
        tool_choice=draw(st.sampled_from(choices)) if offered else "auto",
        response_format=draw(st.sampled_from(forms)),
        metadata={"end_user": draw(names)} if to.end_user and draw(st.booleans()) else {},
        parallel_tool_calls=draw(st.none() | st.booleans()) if to.parallel_switch and offered else None,
        reasoning=draw(_reasoning(to)),
    )


def _reasoning(to: Capabilities) -> st.SearchStrategy[ReasoningOptions | None]:
    kinds: list[st.SearchStrategy[ReasoningOptions | None]] = [st.none()]
    if "effort" in to.reasoning:
        kinds.append(st.sampled_from(["none", "low", "medium", "high"]).map(ReasoningOptions))
    elif "switch" in to.reasoning:
        kinds.append(st.sampled_from(["none", "medium"]).map(ReasoningOptions))
    if "budget" in to.reasoning:
        kinds.append(st.integers(1024, 30000).map(lambda budget: ReasoningOptions(budget=budget)))
    return st.one_of(kinds)


counts = st.integers(0, 10**6)


@st.composite
def usages(draw: st.DrawFn, *, details: bool = True) -> Usage:
    """Draw counts that add up: parts are no larger than the whole."""
    read, written = draw(counts), draw(counts)
    if not details:
        return Usage(read, written)
    cached = draw(st.integers(0, read))
    return Usage(read, written, cached, draw(st.integers(0, read - cached)), draw(st.integers(0, written)))


_token = st.tuples(texts, st.floats(-50, 0))
_tokens = st.builds(TokenLogprob, texts, st.floats(-50, 0), st.lists(_token, max_size=2).map(tuple))


@st.composite
def responses(
    draw: st.DrawFn,
    *,
    usage: st.SearchStrategy[Usage] | None = None,
    reasoning: bool = False,
    tools: bool = True,
    logprobs: bool = False,
    signatures: bool = False,
    source: str = "",
    reasons: tuple[str, ...] = ("stop", "length", "content_filter"),
) -> InferenceResponse:
    """Draw an answer: perhaps reasoning, perhaps text, perhaps calls, in this order."""
    parts: list[Part] = []
    if reasoning and draw(st.booleans()):
        signature = draw(texts) if signatures else None
        parts.append(Reasoning(draw(texts), signature, source if signature else ""))
    if draw(st.booleans()):
        parts.append(Text(draw(texts)))
    calls = draw(st.lists(tool_calls(), max_size=3, unique_by=lambda call: call.id)) if tools else []
    return InferenceResponse(
        Message("assistant", (*parts, *calls)),
        "tool_calls" if calls else draw(st.sampled_from(reasons)),
        draw(usages() if usage is None else usage),
        draw(names),
        logprobs=tuple(draw(st.lists(_tokens, max_size=2))) if logprobs else (),
    )


@st.composite
def deltas(draw: st.DrawFn, *, reasoning: bool = False, logprobs: bool = False, tools: bool = True) -> list[Delta]:
    """Draw a stream: pieces of reasoning, pieces of text, calls, and its end."""
    found: list[Delta] = []
    if reasoning:
        found += [ReasoningDelta(text) for text in draw(st.lists(texts, max_size=3))]
    for text in draw(st.lists(texts, max_size=5)):
        found.append(TextDelta(text))
        if logprobs and draw(st.booleans()):
            found.append(Logprobs((draw(_tokens),)))
    calls = draw(st.lists(tool_calls(), max_size=3, unique_by=lambda call: call.id)) if tools else []
    found += [ToolCallDelta(call.id, call.name, call.arguments) for call in calls]
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
    found.append(Finish(reason, draw(usages())))
    return found
