"""What comes over the wire from Gemini's API, as msgspec reads it; and the names that its requests use.

Source: google-genai 3.6 and Google's discovery document of ``v1beta``. Parts are kept raw until it is known what they
hold: what this build does not know is handed on as it came.
"""

from typing import Any

import msgspec

__all__ = [
    "JSON",
    "NAME",
    "Answer",
    "Candidate",
    "Content",
    "Embeddings",
    "FunctionCall",
    "LogprobsResult",
    "Model",
    "Models",
    "PartFields",
    "TokenTotal",
    "WireUsage",
]

NAME = "gemini"
"""The format's name."""
JSON = {"content-type": "application/json"}


class FunctionCall(msgspec.Struct, rename="camel"):
    """A call; ``id`` is often missing."""

    name: str = ""
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"")


class PartFields(msgspec.Struct, rename="camel"):
    """What a part may hold that has a canonical equivalent."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None


class Content(msgspec.Struct, rename="camel"):
    """A turn."""

    parts: list[msgspec.Raw] | None = None


class TopCandidate(msgspec.Struct, rename="camel"):
    """A token with its log probability."""

    token: str = ""
    log_probability: float | None = None


class TopCandidates(msgspec.Struct, rename="camel"):
    """The best tokens of one step."""

    candidates: list[TopCandidate] | None = None


class LogprobsResult(msgspec.Struct, rename="camel"):
    """The chosen tokens and the best ones, step by step: parallel lists."""

    chosen_candidates: list[TopCandidate] | None = None
    top_candidates: list[TopCandidates] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One answer; content and parts may be missing."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(msgspec.Struct, rename="camel"):
    """Why a prompt was refused."""

    block_reason: str | None = None


class WireUsage(msgspec.Struct, rename="camel"):
    """Token counts; one that is 0 is left out. ``candidates_token_count`` leaves out the thoughts."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None


class Answer(msgspec.Struct, rename="camel"):
    """A whole answer, or a piece of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: WireUsage | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


class Model(msgspec.Struct, rename="camel"):
    """A model in a list."""

    name: str
    display_name: str | None = None
    description: str | None = None
    version: str | None = None
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: list[str] | None = None
    thinking: bool | None = None


class Models(msgspec.Struct, rename="camel"):
    """A page of the list of models."""

    models: list[Model] | None = None
    next_page_token: str | None = None


class Vector(msgspec.Struct):
    """An embedding."""

    values: list[float] = []


class EmbeddingUsage(msgspec.Struct, rename="camel"):
    """What embeddings cost."""

    prompt_token_count: int | None = None


class Embeddings(msgspec.Struct, rename="camel"):
    """Embeddings, of many texts or of one."""

    embeddings: list[Vector] | None = None
    embedding: Vector | None = None
    usage_metadata: EmbeddingUsage | None = None


class TokenTotal(msgspec.Struct, rename="camel"):
    """A count of tokens."""

    total_tokens: int
