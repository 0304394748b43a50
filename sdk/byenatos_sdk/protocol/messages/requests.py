"""What an application asks of a slot or a model."""

from typing import Any, Literal, TypeAlias

from byenatos_sdk.protocol.messages.parts import Message
from byenatos_sdk.protocol.messages.value import Value

__all__ = [
    "DetokenizeRequest",
    "Effort",
    "EmbeddingRequest",
    "InferenceRequest",
    "ReasoningOptions",
    "Sampling",
    "TokenizeRequest",
    "Tool",
]

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


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


class EmbeddingRequest(Value, frozen=True, omit_defaults=True):
    """Texts to turn into vectors. ``dimensions``: how long a vector may be; ``None`` leaves it to the model."""

    inputs: tuple[str, ...]
    model: str = "default"
    dimensions: int | None = None
    extra: dict[str, Any] = {}


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
