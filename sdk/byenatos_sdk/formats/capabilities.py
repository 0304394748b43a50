"""What an API format, or one model behind it, can say: the row of a format in the matrix."""

from typing import Literal, TypeAlias

from byenatos_sdk.protocol.messages import Value

__all__ = ["Capabilities", "Limit", "Source", "SystemPlace"]

SystemPlace: TypeAlias = Literal["anywhere", "leading", "first"]
Source: TypeAlias = Literal["data", "url", "file_id"]


class Limit(Value, frozen=True):
    """How one sampling parameter is said.

    ``wire`` is its name there. Numbers beyond ``low`` or ``high`` are clamped; ``low_open`` and ``high_open`` exclude
    the bounds themselves, ``step`` is how far from an excluded bound a clamped value is put. A value equal to
    ``omit_at`` is said by leaving the parameter out, at no loss. ``items`` and ``length`` bound lists (stop sequences)
    and their strings. ``required``: the format wants one always, this one if the request has none. ``raw_only``: raw
    prompts have it, conversations do not.
    """

    wire: str
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    step: float = 0.01
    omit_at: float | None = None
    items: int | None = None
    length: int | None = None
    required: int | None = None
    raw_only: bool = False


class Capabilities(Value, frozen=True):
    """Everything that a request may hold, and whether this format can say it.

    ``parameters``: by canonical name (the fields of ``Sampling``); one that is missing cannot be said. ``system``:
    where instructions may stand: ``anywhere``, only before the conversation (``leading``, any number of them), or one
    message at its beginning (``first``). ``alternate``: user and assistant must take turns. ``images``, ``files``: how
    a picture or document may come; ``image_detail``: whether it can be said how closely to look. ``tool_choices``: of
    ``none``, ``auto``, ``required``, ``named``. ``parallel_switch``: whether parallel calls can be forbidden.
    ``tool_name``: a regular expression that names of tools must match whole; empty: they may be any.
    ``worded_tools``: a model without ``tools`` is told of them in words.
    ``tool_errors``: whether a result can be marked as an error. ``outputs``: of ``json_object``, ``json_schema``.
    ``reasoning``: how thinking is asked for (``effort``, ``budget``, ``switch``, ``summary``; empty: not at all;
    ``always``: it cannot be switched off).
    ``signatures``: whether reasoning of earlier turns goes back with its signature; ``reasoning_history``: whether it
    may be sent back as text. ``prefill``: whether a trailing message of the assistant is continued. ``raw``: whether
    text can be continued without a chat template.
    """

    format: str
    parameters: dict[str, Limit]
    system: SystemPlace = "anywhere"
    alternate: bool = False
    user_needed: bool = False
    images: frozenset[Source] = frozenset()
    image_detail: bool = False
    audio: bool = False
    files: frozenset[Source] = frozenset()
    tool_images: bool = False
    tools: bool = False
    tool_choices: frozenset[str] = frozenset({"none", "auto", "required", "named"})
    parallel_switch: bool = False
    tool_errors: bool = False
    tool_name: str = r"[A-Za-z0-9_-]{1,64}"
    worded_tools: bool = False
    outputs: frozenset[str] = frozenset()
    reasoning: frozenset[str] = frozenset()
    signatures: bool = False
    reasoning_history: bool = False
    prefill: bool = False
    raw: bool = False
    choices: int = 1
    end_user: bool = False
    embeddings: bool = False
    model_list: bool = False
    token_count: bool = False
