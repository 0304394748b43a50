"""The instruction set: what applications ask, what drivers answer, and how models describe themselves.

Every value is frozen. Requests, parts and descriptions travel as msgpack maps, so that a field with a default may be
added at any time; deltas travel as arrays with an integer tag, because they are the hot path. A stream of deltas ends
in exactly one terminal, :class:`Finish` or :class:`Failure`; a stream without a terminal does not exist.
"""

from enum import Enum
from typing import Annotated, Any, Literal, TypeAlias, dataclass_transform

from msgspec import Meta, Struct, field

__all__ = [
    "MOST_KEPT_S",
    "MOST_SESSION_MOVES",
    "Audio",
    "Delta",
    "DetokenizeRequest",
    "Effort",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "Failure",
    "File",
    "Finish",
    "FinishReason",
    "Image",
    "InferenceRequest",
    "InferenceResponse",
    "InstanceState",
    "KeptSeconds",
    "Logprobs",
    "Message",
    "ModelHealthStatus",
    "ModelSpecification",
    "Moved",
    "Part",
    "Reasoning",
    "ReasoningDelta",
    "ReasoningOptions",
    "Role",
    "Sampling",
    "SessionInfo",
    "SessionLevel",
    "SessionMove",
    "SwapEvent",
    "SwapRequest",
    "SwapState",
    "SwapStrategy",
    "Terminal",
    "Text",
    "TextDelta",
    "TokenCount",
    "TokenLogprob",
    "TokenizeRequest",
    "Tokens",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "Usage",
    "Value",
    "assistant",
    "system",
    "user",
]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
SwapStrategy: TypeAlias = Literal["graceful", "immediate", "background", "session_aware"]
SessionLevel: TypeAlias = Literal["kv", "tokens", "text", "drain"]
"""How a conversation gets to another instance, the best first: with its warm state; by text that both read as the same
tokens; by text that the target reads anew; not at all, it ends where it is."""


class SwapState(Enum):
    """Where a swap stands; the transitions are a table in the kernel's ``swaps``."""

    REQUESTED = "requested"
    VALIDATED = "validated"
    PREPARING = "preparing"
    PREPARED = "prepared"
    SWITCHED = "switched"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class InstanceState(Enum):
    """Where an instance stands in its life; the transitions are a table in the kernel's ``instances``."""

    DISCOVERED = "discovered"
    VERIFIED = "verified"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"
    QUARANTINED = "quarantined"


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value(Struct, frozen=True):
    """A frozen msgspec struct: the base of everything that travels as a map."""


# ---- parts of a message -----------------------------------------------------------------------------------------


class Text(Value, frozen=True, tag="text"):
    """Plain text, UTF-8."""

    text: str


class Image(Value, frozen=True, tag="image"):
    """A picture: ``data`` (encoded bytes of ``media_type``), a ``url``, or the ``file_id`` that a vendor gave it."""

    media_type: str = "image/png"
    data: bytes | None = None
    url: str | None = None
    detail: Literal["auto", "low", "high", "original"] = "auto"
    file_id: str | None = None


class Audio(Value, frozen=True, tag="audio"):
    """Sound, encoded as ``media_type``."""

    data: bytes
    media_type: str = "audio/wav"


class File(Value, frozen=True, tag="file"):
    """A document: ``data`` (bytes of ``media_type``), a ``url``, or the ``file_id`` that a vendor gave it."""

    name: str = ""
    media_type: str = "application/octet-stream"
    data: bytes | None = None
    url: str | None = None
    file_id: str | None = None


class ToolCall(Value, frozen=True, tag="tool_call"):
    """A call that the model asks for; ``arguments`` is a JSON object as text.

    ``signature`` is opaque and the vendor's own; it goes back unchanged with the call, to that vendor only.
    """

    id: str
    name: str
    arguments: str = "{}"
    signature: str | None = None


class ToolResult(Value, frozen=True, tag="tool_result"):
    """What a tool answered to the call ``call_id``; ``name`` is the tool's, empty where the caller did not say."""

    call_id: str
    text: str
    is_error: bool = False
    name: str = ""
    images: tuple[Image, ...] = ()


class Reasoning(Value, frozen=True, tag="reasoning"):
    """A model's reasoning with the vendor's opaque signature, to be handed back unchanged.

    ``source`` names the API format whose signature it is: no other understands it. ``redacted``: the vendor keeps the
    text to itself and ``signature`` stands for it.
    """

    text: str
    signature: str | None = None
    source: str = ""
    redacted: bool = False


Part: TypeAlias = Text | Image | Audio | File | ToolCall | ToolResult | Reasoning


class Message(Value, frozen=True):
    """One turn's worth of parts by one role."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def system(text: str) -> Message:
    """Build a system message of one text part."""
    return Message("system", (Text(text),))


def user(text: str) -> Message:
    """Build a user message of one text part."""
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    """Build an assistant message of one text part."""
    return Message("assistant", (Text(text),))


# ---- requests and responses ------------------------------------------------------------------------------------


class Tool(Value, frozen=True):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool | None = None


class ReasoningOptions(Value, frozen=True, omit_defaults=True):
    """How much a model is to think before it answers. ``None`` means the model's own default.

    ``effort`` and ``budget`` (tokens) are two ways to say it; ``none`` switches it off. ``summary`` asks for a summary
    of the thoughts: ``auto``, ``concise`` or ``detailed``.
    """

    effort: Effort | None = None
    budget: int | None = None
    summary: str | None = None


class Sampling(Value, frozen=True, omit_defaults=True):
    """How to choose tokens. ``None`` means the model's own default.

    temperature: 0 (greedy) to 2. top_p, min_p: 0 to 1. max_tokens: of the answer. seed: same seed and same text
    give the same answer where the driver can. logprobs: how many alternatives to report per token.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None


class InferenceRequest(Value, frozen=True, omit_defaults=True):
    """What an application asks of a slot or a model.

    ``model`` names a slot or a model. With a ``session`` the kernel puts that conversation's transcript before
    ``messages``. If the last message is the assistant's, the model continues it. ``timeout_s`` bounds the whole
    answer, ``gap_timeout_s`` the silence before the first delta and between two. ``extra`` reaches the driver as it is.
    ``continued`` is set by the driver's runtime alone: how many characters at the end of the last message this very
    answer has said already, at another instance; they count against ``max_tokens``.

    ``tool_choice``: ``auto``, ``none``, ``required`` or a tool's name. ``response_format``: ``{"type": "json_object"}``
    or ``{"type": "json_schema", "json_schema": {"name", "schema", "strict"}}``. ``raw``: the text of the messages is
    continued as it stands, without a chat template. ``strict``: what the model's API cannot express is refused as
    ``unsupported``, naming the parameter, instead of adapted.
    """

    messages: tuple[Message, ...]
    id: str = ""
    model: str = "default"
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    response_format: dict[str, Any] | None = None
    session: str | None = None
    task: str | None = None
    privacy: Literal["any", "local"] = "any"
    timeout_s: float | None = None
    gap_timeout_s: float | None = None
    metadata: dict[str, str] = {}
    extra: dict[str, Any] = {}
    continued: int = 0
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    raw: bool = False
    strict: bool = False

    @property
    def partial(self) -> str:
        """The text of a trailing assistant message, which the model is asked to continue; empty without one."""
        return self.messages[-1].text if self.messages and self.messages[-1].role == "assistant" else ""


class Usage(Struct, frozen=True, array_like=True, gc=False):
    """Tokens read and written by the instance that finished the answer; ``None``: it did not say.

    ``input_tokens`` includes ``cached_tokens`` (read from a cache) and ``cache_write_tokens`` (stored in one);
    ``output_tokens`` includes ``reasoning_tokens``.
    """

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


# ---- deltas: what a stream is made of --------------------------------------------------------------------------


class TextDelta(Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The next piece of the answer's text: whole characters, never half of one."""

    text: str


class ReasoningDelta(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The next piece of the model's reasoning; the last piece may carry the vendor's signature (see ``Reasoning``)."""

    text: str
    signature: str | None = None
    source: str = ""
    redacted: bool = False


class ToolCallDelta(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A complete tool call: calls reach a client whole or not at all, so that a move cannot tear one."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


class TokenLogprob(Struct, frozen=True, array_like=True):
    """One token with its natural-log probability and its best alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Logprobs(Struct, frozen=True, array_like=True, tag=3):
    """Log probabilities of the tokens that came with the preceding text."""

    tokens: tuple[TokenLogprob, ...]


class Moved(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """For information: the stream goes on at another instance. ``source`` and ``target`` are model ids."""

    source: str
    target: str
    reason: str


class Finish(Struct, frozen=True, array_like=True, tag=5):
    """The answer is complete. ``model`` is the one that ended it (filled in by the kernel).

    ``detail`` refines ``reason`` where the vendor said more: ``stop_sequence`` (which one stands beside it),
    ``refusal``, ``context_length``, ``pause``, ``load``, ``unload``, or the vendor's own word if it has no equal here.
    ``adapted`` says what of the request the vendor's format could not express and what was done about it.
    """

    reason: FinishReason = "stop"
    usage: Usage = Usage()
    model: str = ""
    detail: str = ""
    stop_sequence: str | None = None
    adapted: tuple[str, ...] = ()


class Failure(Struct, frozen=True, array_like=True, tag=6):
    """The answer ends here with an error; ``partial`` says that part of it was delivered."""

    code: str
    message: str
    retry_after_s: float | None = None
    partial: bool = False


Terminal: TypeAlias = Finish | Failure
Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Logprobs | Moved | Finish | Failure


class EmbeddingRequest(Value, frozen=True, omit_defaults=True):
    """Texts to turn into vectors. ``dimensions``: how long a vector may be; ``None`` leaves it to the model."""

    inputs: tuple[str, ...]
    model: str = "default"
    dimensions: int | None = None
    extra: dict[str, Any] = {}


class EmbeddingResponse(Value, frozen=True):
    """One vector for each input, in their order."""

    vectors: tuple[tuple[float, ...], ...]
    model: str = ""
    usage: Usage = Usage()


class TokenCount(Value, frozen=True):
    """How many tokens a request's input comes to, in the model's own tokens and with its chat template."""

    input_tokens: int
    model: str = ""


class TokenizeRequest(Value, frozen=True, omit_defaults=True):
    """Split a ``text`` into the tokens of ``model``, a slot or a model.

    ``special``: the names of special tokens in it stand for these. ``begin``: put before it what the model wants at the
    beginning of a text.
    """

    text: str
    model: str = "default"
    special: bool = True
    begin: bool = False
    timeout_s: float | None = None


class DetokenizeRequest(Value, frozen=True, omit_defaults=True):
    """Join tokens of ``model``, a slot or a model, to a text."""

    ids: tuple[int, ...]
    model: str = "default"
    timeout_s: float | None = None


class Tokens(Value, frozen=True):
    """Tokens by their number in the vocabulary, and the bytes that each stands for: together they are ``text``."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """What they say; bytes that are no UTF-8 are replaced."""
        return b"".join(self.pieces).decode("utf-8", "replace")


class InferenceResponse(Value, frozen=True):
    """A whole answer: what a stream's deltas add up to. ``detail``, ``stop_sequence``, ``adapted``: see ``Finish``."""

    message: Message
    reason: FinishReason
    usage: Usage
    model: str
    moves: tuple[Moved, ...] = ()
    detail: str = ""
    stop_sequence: str | None = None
    adapted: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.message.text


# ---- descriptions ----------------------------------------------------------------------------------------------


class ModelSpecification(Value, frozen=True, omit_defaults=True):
    """What a model is and can do, as its driver found it.

    ``context_length`` in tokens (0: not known), ``size_bytes`` of the file, ``features`` such as ``continue`` (can go
    on from a partial answer), ``tools``, ``images``, ``embeddings``, ``chat_template``. ``memory_bytes`` is what the
    model takes of this machine once it is loaded as configured: its weights (``size_bytes`` of it are the file's, which
    processes of one model share), the context and what a step computes in; 0 if nothing, or if that is not known.
    ``settings``: what a driver must be set to for a model of its vendor's list, beside the settings of its manifest.
    """

    id: str
    driver: str = ""
    name: str = ""
    architecture: str = ""
    quantization: str = ""
    parameters: int = 0
    context_length: int = 0
    size_bytes: int = 0
    tokenizer: str = ""
    features: frozenset[str] = frozenset()
    metadata: dict[str, str] = {}
    settings: dict[str, Any] = {}
    memory_bytes: int = 0


class ModelHealthStatus(Value, frozen=True, omit_defaults=True):
    """How an instance feels: ``ok``, ``degraded`` (serves, but see ``detail``) or ``down``."""

    status: Literal["ok", "degraded", "down"] = "ok"
    detail: str = ""
    metrics: dict[str, float] = {}


MOST_KEPT_S = 1e7
"""The longest time for which an old instance can be kept, about four months."""
KeptSeconds: TypeAlias = Annotated[float, Meta(ge=0, le=MOST_KEPT_S)]


class SwapRequest(Value, frozen=True, omit_defaults=True):
    """Bind ``slot`` to ``model``.

    ``graceful`` lets running answers end where they are, ``immediate`` moves them, ``session_aware`` moves each
    conversation between its own turns, ``background`` prepares with low priority and switches once the slot is idle.
    ``reason`` is what caused it: ``manual``, or a trigger's name. ``force``: swap even if conversations of the slot are
    more than the target can take. For ``keep_old_s`` seconds after the switch the old instance is kept, and the swap
    rolled back if the new one fails (``None``: as the operator's policy says).

    The call returns once new requests go to the new model, or with ``until="retired"`` once the old one is gone.
    """

    slot: str
    model: str
    strategy: SwapStrategy = "graceful"
    reason: str = "manual"
    until: Literal["switched", "retired"] = "switched"
    force: bool = False
    keep_old_s: KeptSeconds | None = None


class SessionMove(Value, frozen=True, omit_defaults=True):
    """How one conversation got to the target of a swap: at which ``level``, and what that cost.

    ``session`` is its id, or empty for a request without one. ``positions`` (tokens, for a language model) and
    ``bytes`` of warm state were copied, or read anew at the level ``text``. ``pause_s`` is for how long a running
    answer said nothing, from its last delta at the old instance to the first at the new one.
    """

    session: str
    level: SessionLevel
    positions: int = 0
    bytes: int = 0
    pause_s: float = 0.0
    detail: str = ""


class SwapEvent(Value, frozen=True, omit_defaults=True):
    """One step of one swap. ``at`` in seconds since the epoch, ``elapsed_s`` since the swap was requested.

    Of the ``moved_streams``, ``warm_streams`` moved with their warm state, the others by their text. ``cause`` is the
    request's ``reason``. In ``sequential`` mode memory holds only one of the two models: the old one leaves first, and
    requests wait until the new one is there. ``sessions`` are the conversations that moved or are to move, the first
    ``MOST_SESSION_MOVES``.
    """

    id: int
    slot: str
    source: str
    target: str
    strategy: SwapStrategy
    state: SwapState
    at: float
    elapsed_s: float = 0.0
    detail: str = ""
    moved_streams: int = 0
    draining_streams: int = 0
    warm_streams: int = 0
    cause: str = "manual"
    mode: Literal["overlap", "sequential"] = "overlap"
    sessions: tuple[SessionMove, ...] = ()


MOST_SESSION_MOVES = 64
"""Conversations that an event of a swap tells of; of the others it has the number."""


class SessionInfo(Value, frozen=True, omit_defaults=True):
    """A conversation the kernel keeps. Times in seconds since the epoch.

    ``home`` is the model that it was moved to by hand; empty if it is answered by its slot.
    """

    id: str
    slot: str
    owner: str
    created_at: float
    updated_at: float
    turns: int
    title: str = ""
    home: str = ""
