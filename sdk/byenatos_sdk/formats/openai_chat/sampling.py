"""How to choose tokens and how much to think: fields of OpenAI's dialects and canonical ones, both ways.

Reading knows the names of all dialects, so that a client written for one may talk to a front that is another;
writing uses the names of its own dialect, which stand in its row of the matrix.
"""

from typing import cast, get_args

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.openai_chat.profile import Written
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Effort, ReasoningOptions, Sampling

__all__ = ["read_reasoning", "read_sampling", "write_sampling"]

_EFFORTS = frozenset(get_args(Effort))
_REPETITION = ("repetition_penalty", "repeat_penalty", "penalty_score")


def _bias(request: Fields) -> dict[int, float]:
    bias: dict[int, float] = {}
    for token, value in (request.mapping("logit_bias") or {}).items():
        if not token.isascii() or not token.isdigit() or len(token) > 10:
            raise InvalidRequest(f"logit_bias: expected ids of tokens, found {token[:40]!r}")
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6:
            raise InvalidRequest(f"logit_bias.{token}: expected a number, found {str(value)[:40]!r}")
        bias[int(token)] = value
    return bias


def _logprobs(request: Fields) -> int | None:
    """Return how many alternatives to report: chats switch and count apart, completions count only."""
    wanted = request.get("logprobs")
    top = request.whole("top_logprobs")
    if isinstance(wanted, bool) or wanted is None:
        if top and not wanted:
            raise request.wrong("top_logprobs", "none without logprobs: true")
        return (top or 0) if wanted else None
    return request.whole("logprobs")


def read_sampling(request: Fields) -> Sampling:
    """Read the parameters of sampling.

    Raises:
        InvalidRequest: one of them is of the wrong type.
    """
    limit = request.whole("max_completion_tokens")
    repetition = next((request.number(name) for name in _REPETITION if name in request), None)
    top_k = request.whole("top_k")
    return Sampling(
        temperature=request.number("temperature"),
        top_p=request.number("top_p"),
        top_k=None if top_k == -1 else top_k,
        min_p=request.number("min_p"),
        max_tokens=request.whole("max_tokens") if limit is None else limit,
        stop=request.texts("stop"),
        seed=request.whole("seed"),
        presence_penalty=request.number("presence_penalty"),
        frequency_penalty=request.number("frequency_penalty"),
        repetition_penalty=repetition,
        logit_bias=_bias(request),
        logprobs=_logprobs(request),
    )


def write_sampling(sampling: Sampling, able: Capabilities, *, raw: bool = False) -> Written:
    """Write the parameters that there are, under their names. ``raw``: for completions, which have older names."""
    body: Written = {}
    for name, limit in able.parameters.items():
        value = getattr(sampling, name)
        if value in (None, (), {}):
            continue
        if name == "stop":
            body[limit.wire] = list(value)
        elif name == "logit_bias":
            body[limit.wire] = {str(token): bias for token, bias in value.items()}
        elif name != "logprobs":
            body[limit.wire] = value
        elif raw:
            body["logprobs"] = value
        else:
            body["logprobs"] = True
            if value:
                body[limit.wire] = value
    if raw and sampling.max_tokens is not None and "max_tokens" in able.parameters:
        body.pop(able.parameters["max_tokens"].wire, None)
        body["max_tokens"] = sampling.max_tokens
    return body


def _effort(fields: Fields, key: str) -> Effort | None:
    word = fields.text(key)
    if word is not None and word not in _EFFORTS:
        raise InvalidRequest(f"{fields.name(key)}: expected one of {', '.join(get_args(Effort))}, found {word[:40]!r}")
    return cast("Effort | None", word)


_SWITCHED: dict[bool | None, Effort | None] = {None: None, True: "medium", False: "none"}


def read_reasoning(request: Fields) -> ReasoningOptions | None:
    """Read how much to think, in whichever way a dialect says it.

    ``reasoning_effort`` (OpenAI), ``reasoning`` (OpenRouter), ``enable_thinking`` and ``reasoning_effort`` in
    ``chat_template_kwargs`` (vLLM, llama.cpp), ``enable_thinking`` and ``thinking_budget`` (Qianfan, DashScope),
    ``thinking_token_budget`` (vLLM), ``thinking`` (DeepSeek, Zhipu, Moonshot, Ark).

    Raises:
        InvalidRequest: one of them is of the wrong type.
    """
    effort = _effort(request, "reasoning_effort")
    budget = request.whole("thinking_budget")
    if budget is None:
        budget = request.whole("thinking_token_budget")
    switch = request.flag("enable_thinking")
    summary = None
    template = request.inner("chat_template_kwargs")
    if template is not None:
        switch = template.flag("enable_thinking") if switch is None else switch
        effort = effort or _effort(template, "reasoning_effort")
    own = request.inner("reasoning")
    if own is not None:
        effort = effort or _effort(own, "effort")
        budget = own.whole("max_tokens") if budget is None else budget
        switch = own.flag("enabled") if switch is None else switch
        summary = own.text("summary")
    kind = request.inner("thinking")
    if kind is not None:
        word = kind.text("type")
        switch = {"enabled": True, "disabled": False}.get(word or "", switch)
        budget = kind.whole("budget_tokens") if budget is None else budget
    if switch is False or (effort is None and budget is None):
        effort = _SWITCHED[switch]
    options = ReasoningOptions(effort, budget if effort != "none" else None, summary)
    return None if options == ReasoningOptions() else options
