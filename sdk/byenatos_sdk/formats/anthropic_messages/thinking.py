"""How much to think: ``thinking`` and ``output_config.effort``, and what else they forbid.

``enabled`` has a budget of at least 1,024 tokens, which must be less than ``max_tokens``; ``adaptive`` leaves it to the
model, as far as the effort goes. Where the model thinks, it samples as it likes and no call may be forced.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats.anthropic_messages.shapes import Request
from byenatos_sdk.formats.wire import Action
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Effort, InferenceRequest, ReasoningOptions

__all__ = ["MIN_BUDGET", "fit_thinking", "read_thinking", "write_thinking"]

MIN_BUDGET = 1024
"""The smallest budget that the API takes, in tokens."""
_ROOM = 4096
"""How many tokens an answer gets beyond its budget of thoughts where the request names no limit."""
_EFFORTS: dict[str, Effort] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}

Lose = Callable[[str, Action, str], None]


def fit_thinking(request: InferenceRequest, lose: Lose, *, limited: bool) -> InferenceRequest:
    """Return ``request`` without what the API refuses beside thinking; ``limited``: the caller set ``max_tokens``."""
    options = request.reasoning
    if options is None or options.effort == "none" or options.budget == 0:
        return request
    if request.tools and request.tool_choice not in {"auto", "none"}:
        lose("reasoning", "dropped", "the API cannot force a call of a model that thinks")
        return replace(request, reasoning=None)
    if options.budget is not None:
        request = _fit_budget(request, options, options.budget, lose, limited=limited)
    if request.reasoning is None:
        return request
    if options.effort == "minimal":
        lose("reasoning.effort", "clamped", "the API's lowest effort is low")
        request = replace(request, reasoning=replace(request.reasoning, effort="low"))
    sampling = request.sampling
    for name, kept in (("temperature", sampling.temperature == 1), ("top_k", False)):
        if getattr(sampling, name) is not None and not kept:
            lose(name, "dropped", "the API samples as it likes where the model thinks")
            sampling = replace(sampling, **{name: None})
    return replace(request, sampling=sampling)


def _fit_budget(
    request: InferenceRequest, options: ReasoningOptions, budget: int, lose: Lose, *, limited: bool
) -> InferenceRequest:
    limit = request.sampling.max_tokens or 0
    if not limited:
        limit = max(limit, budget + _ROOM)
        request = replace(request, sampling=replace(request.sampling, max_tokens=limit))
    if limit <= MIN_BUDGET:
        lose("reasoning.budget", "dropped", f"the API wants a budget of {MIN_BUDGET} tokens below max_tokens ({limit})")
        return replace(request, reasoning=None)
    fitting = min(max(budget, MIN_BUDGET), limit - 1)
    if fitting != budget:
        lose("reasoning.budget", "clamped", f"the API takes {MIN_BUDGET} tokens to less than max_tokens ({limit})")
    return replace(request, reasoning=replace(options, budget=fitting))


def write_thinking(body: dict[str, Any], options: ReasoningOptions | None, own: Any) -> None:
    """Put ``options`` into a request's body; ``own`` is what ``extra["thinking"]`` kept of a client's request."""
    kept: dict[str, Any] = own if isinstance(own, dict) else {}
    if options is None:
        return
    if "type" in kept:
        body["thinking"] = kept
        return
    if options.effort == "none" or options.budget == 0:
        body["thinking"] = {"type": "disabled"}
        return
    if options.budget is not None:
        body["thinking"] = {"type": "enabled", "budget_tokens": options.budget} | kept
    else:
        body["thinking"] = {"type": "adaptive"} | kept
    if options.effort is not None:
        body.setdefault("output_config", {})["effort"] = options.effort


def read_thinking(read: Request, raw: Any) -> tuple[ReasoningOptions | None, dict[str, Any] | None]:
    """Return what a client's request says about thinking, and what of it only this API understands.

    Raises:
        InvalidRequest: it says so in a way that the API does not know.
    """
    effort = None
    if read.output_config is not None and read.output_config.effort is not None:
        effort = _EFFORTS.get(read.output_config.effort)
        if effort is None:
            raise InvalidRequest(f"output_config.effort: expected one of {', '.join(_EFFORTS)}")
    thinking = read.thinking
    if thinking is None:
        return (None, None) if effort is None else (ReasoningOptions(effort), None)
    if thinking.type == "disabled":
        return ReasoningOptions("none"), None
    kept = {name: value for name, value in raw.items() if name not in {"type", "budget_tokens"} and value is not None}
    if thinking.type == "enabled":
        if thinking.budget_tokens is None:
            raise InvalidRequest("thinking.budget_tokens: expected an integer, found none")
        return ReasoningOptions(effort, thinking.budget_tokens), kept or None
    if thinking.type not in {"adaptive", "between_tools"}:
        raise InvalidRequest(
            f"thinking.type: expected enabled, adaptive, between_tools or disabled, found {thinking.type!r}"
        )
    if effort is None or thinking.type == "between_tools":
        kept["type"] = thinking.type
    return ReasoningOptions(effort or "medium"), kept or None
