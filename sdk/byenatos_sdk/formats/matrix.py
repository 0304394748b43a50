"""The matrix: what each format can say, as data, in one place. The documentation is rendered from it.

Sources: the vendors' SDKs, servers and documentation as of November 2026. A model may do less than its format; whoever
knows says so with ``Capabilities`` of its own (``msgspec.structs.replace``).
"""

from collections.abc import Mapping

from byenatos_sdk.formats.capabilities import Capabilities, Limit

__all__ = ["MATRIX", "PARAMETERS", "render"]

PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logprobs",
    "logit_bias",
)
"""The canonical names, which are the fields of ``Sampling``."""

_ALL = frozenset({"none", "auto", "required", "named"})
_JSON = frozenset({"json_object", "json_schema"})
_PENALTY = (-2.0, 2.0)


def _openai(name: str, **more: object) -> Capabilities:
    """Capabilities of OpenAI's Chat Completions, which many others speak with small changes."""
    fields: dict[str, object] = {
        "format": name,
        "parameters": {
            "max_tokens": Limit("max_completion_tokens", 1),
            "temperature": Limit("temperature", 0, 2),
            "top_p": Limit("top_p", 0, 1),
            "stop": Limit("stop", items=4),
            "presence_penalty": Limit("presence_penalty", *_PENALTY),
            "frequency_penalty": Limit("frequency_penalty", *_PENALTY),
            "seed": Limit("seed"),
            "logprobs": Limit("top_logprobs", 0, 20),
            "logit_bias": Limit("logit_bias", -100, 100),
        },
        "images": frozenset({"data", "url"}),
        "image_detail": True,
        "audio": True,
        "files": frozenset({"data", "file_id"}),
        "tools": True,
        "parallel_switch": True,
        "outputs": _JSON,
        "reasoning": frozenset({"effort"}),
        "choices": 128,
        "end_user": True,
        "embeddings": True,
        "model_list": True,
    }
    return Capabilities(**(fields | more))  # type: ignore[arg-type]  # a table, checked by the tests


def _and(name: str, *without: str, **more: Limit) -> dict[str, Limit]:
    """Return OpenAI's parameters less ``without``, with ``more``."""
    own = _openai(name).parameters
    return {key: limit for key, limit in own.items() if key not in without} | more


_LOCAL = {
    "top_k": Limit("top_k", 0),
    "min_p": Limit("min_p", 0, 1),
    "repetition_penalty": Limit("repetition_penalty", 0, low_open=True),
}

_ROWS = (
    _openai("openai_chat"),
    Capabilities(
        "openai_responses",
        {
            "max_tokens": Limit("max_output_tokens", 16),
            "temperature": Limit("temperature", 0, 2),
            "top_p": Limit("top_p", 0, 1),
            "logprobs": Limit("top_logprobs", 0, 20),
        },
        images=frozenset({"data", "url", "file_id"}),
        image_detail=True,
        files=frozenset({"data", "url", "file_id"}),
        tool_images=True,
        tools=True,
        parallel_switch=True,
        outputs=_JSON,
        reasoning=frozenset({"effort", "summary"}),
        signatures=True,
        end_user=True,
        token_count=True,
    ),
    Capabilities(
        "anthropic_messages",
        {
            "max_tokens": Limit("max_tokens", 1, required=4096),
            "temperature": Limit("temperature", 0, 1),
            "top_p": Limit("top_p", 0, 1),
            "top_k": Limit("top_k", 0),
            "stop": Limit("stop_sequences"),
        },
        system="leading",
        user_needed=True,
        images=frozenset({"data", "url", "file_id"}),
        files=frozenset({"data", "url", "file_id"}),
        tool_images=True,
        tools=True,
        parallel_switch=True,
        tool_errors=True,
        tool_name=r"[A-Za-z0-9_-]{1,128}",
        outputs=frozenset({"json_schema"}),
        reasoning=frozenset({"effort", "budget", "switch"}),
        signatures=True,
        prefill=True,
        end_user=True,
        model_list=True,
        token_count=True,
    ),
    Capabilities(
        "gemini",
        {
            "max_tokens": Limit("maxOutputTokens", 1),
            "temperature": Limit("temperature", 0, 2),
            "top_p": Limit("topP", 0, 1),
            "top_k": Limit("topK", 1),
            "stop": Limit("stopSequences", items=5),
            "presence_penalty": Limit("presencePenalty", *_PENALTY),
            "frequency_penalty": Limit("frequencyPenalty", *_PENALTY),
            "seed": Limit("seed", -(2**31), 2**31 - 1),
            "logprobs": Limit("logprobs", 0, 20),
        },
        system="leading",
        user_needed=True,
        images=frozenset({"data", "url"}),
        audio=True,
        files=frozenset({"data", "url"}),
        tools=True,
        tool_errors=True,
        tool_name=r"[A-Za-z0-9_.:-]{1,128}",
        outputs=_JSON,
        reasoning=frozenset({"effort", "budget", "switch", "summary"}),
        signatures=True,
        reasoning_history=True,
        prefill=False,
        choices=8,
        embeddings=True,
        model_list=True,
        token_count=True,
    ),
    Capabilities(
        "huggingface_tgi",
        {
            "max_tokens": Limit("max_new_tokens", 1),
            "temperature": Limit("temperature", 0, low_open=True, omit_at=0),
            "top_p": Limit("top_p", 0, 1, low_open=True, high_open=True, omit_at=1),
            "top_k": Limit("top_k", 0, low_open=True, step=1, omit_at=0, raw_only=True),
            "stop": Limit("stop", items=4),
            "frequency_penalty": Limit("frequency_penalty", *_PENALTY),
            "repetition_penalty": Limit("repetition_penalty", 0, low_open=True, raw_only=True),
            "seed": Limit("seed", 0, low_open=True, step=1),
            "logprobs": Limit("top_n_tokens", 0, 5),
        },
        images=frozenset({"data", "url"}),
        tools=True,
        outputs=_JSON,
        raw=True,
        embeddings=True,
        model_list=True,
        token_count=True,
    ),
    Capabilities(
        "ollama",
        {
            "max_tokens": Limit("num_predict", 1),
            "temperature": Limit("temperature", 0),
            "top_p": Limit("top_p", 0, 1),
            "top_k": Limit("top_k", 0),
            "min_p": Limit("min_p", 0, 1),
            "stop": Limit("stop"),
            "presence_penalty": Limit("presence_penalty", *_PENALTY),
            "frequency_penalty": Limit("frequency_penalty", *_PENALTY),
            "repetition_penalty": Limit("repeat_penalty", 0),
            "seed": Limit("seed"),
            "logprobs": Limit("top_logprobs", 0, 20),
        },
        images=frozenset({"data"}),
        tools=True,
        tool_choices=frozenset({"auto"}),
        tool_name="",
        outputs=_JSON,
        reasoning=frozenset({"effort", "switch"}),
        reasoning_history=True,
        prefill=True,
        raw=True,
        embeddings=True,
        model_list=True,
    ),
    _openai(
        "llamacpp_server",
        parameters=_and("llamacpp_server", "max_tokens", "stop", "temperature", **_LOCAL)
        | {
            "max_tokens": Limit("max_tokens", 1),
            "temperature": Limit("temperature", 0),
            "stop": Limit("stop"),
            "repetition_penalty": Limit("repeat_penalty", 0, low_open=True),
        },
        files=frozenset(),
        tool_name="",
        reasoning=frozenset({"effort", "switch"}),
        reasoning_history=True,
        prefill=True,
        raw=True,
        end_user=False,
        token_count=True,
    ),
    _openai(
        "vllm",
        parameters=_and("vllm", "temperature", "top_p", "stop", **_LOCAL)
        | {
            "temperature": Limit("temperature", 0),
            "top_p": Limit("top_p", 0, 1, low_open=True),
            "stop": Limit("stop"),
        },
        files=frozenset(),
        tool_name="",
        reasoning=frozenset({"effort", "budget", "switch"}),
        reasoning_history=True,
        prefill=True,
        raw=True,
        token_count=True,
    ),
    _openai(
        "qianfan",
        parameters=_and("qianfan", "stop", "top_p", "logprobs", "logit_bias")
        | {
            "top_p": Limit("top_p", 0, 1, low_open=True),
            "stop": Limit("stop", items=4, length=20),
            "repetition_penalty": Limit("penalty_score", 1, 2),
        },
        system="leading",
        alternate=True,
        audio=False,
        files=frozenset(),
        reasoning=frozenset({"budget", "switch"}),
        choices=1,
    ),
    Capabilities(
        "dashscope",
        {
            "max_tokens": Limit("max_tokens", 1),
            "temperature": Limit("temperature", 0, 2, high_open=True),
            "top_p": Limit("top_p", 0, 1, low_open=True),
            "top_k": Limit("top_k", 0),
            "stop": Limit("stop"),
            "presence_penalty": Limit("presence_penalty", *_PENALTY),
            "repetition_penalty": Limit("repetition_penalty", 0, low_open=True),
            "seed": Limit("seed", 0, 2**31 - 1),
            "logprobs": Limit("top_logprobs", 0, 5),
        },
        images=frozenset({"data", "url"}),
        audio=True,
        tools=True,
        tool_choices=frozenset({"none", "auto", "named"}),
        parallel_switch=True,
        outputs=_JSON,
        reasoning=frozenset({"budget", "switch"}),
        choices=4,
        embeddings=True,
    ),
    Capabilities(
        "hunyuan",
        {
            "temperature": Limit("Temperature", 0, 2),
            "top_p": Limit("TopP", 0, 1),
            "stop": Limit("Stop"),
            "seed": Limit("Seed", 1, 10000),
        },
        system="first",
        alternate=True,
        user_needed=True,
        images=frozenset({"data", "url"}),
        files=frozenset({"file_id"}),
        tools=True,
        tool_choices=frozenset({"none", "auto", "named"}),
        reasoning=frozenset({"switch"}),
        embeddings=True,
    ),
    Capabilities(
        "meta",
        {
            "max_tokens": Limit("max_completion_tokens", 1),
            "temperature": Limit("temperature", 0),
            "top_p": Limit("top_p", 0, 1),
            "top_k": Limit("top_k", 0),
            "repetition_penalty": Limit("repetition_penalty", 1, 2),
        },
        images=frozenset({"data", "url"}),
        tools=True,
        outputs=frozenset({"json_schema"}),
        end_user=True,
        model_list=True,
    ),
)

MATRIX: Mapping[str, Capabilities] = {row.format: row for row in _ROWS}
"""Every format's capabilities, by its name."""


def render() -> str:
    """Return the matrix as a Markdown table: a row for each thing that a request may say, a column for each format."""
    rows = {f"`{name}`": [_limit(one.parameters.get(name)) for one in _ROWS] for name in PARAMETERS}
    rows |= {
        "system messages": [one.system for one in _ROWS],
        "turns must alternate": [_yes(one.alternate) for one in _ROWS],
        "images": [_several(one.images) for one in _ROWS],
        "detail of images": [_yes(one.image_detail) for one in _ROWS],
        "audio": [_yes(one.audio) for one in _ROWS],
        "files": [_several(one.files) for one in _ROWS],
        "tools": [_yes(one.tools) for one in _ROWS],
        "names of tools": [f"`{one.tool_name}`" if one.tool_name else "any" for one in _ROWS],
        "tool_choice": [_several(one.tool_choices) if one.tools else "-" for one in _ROWS],
        "parallel_tool_calls=false": [_yes(one.parallel_switch) for one in _ROWS],
        "errors of tools": [_yes(one.tool_errors) for one in _ROWS],
        "images from tools": [_yes(one.tool_images) for one in _ROWS],
        "response_format": [_several(one.outputs) for one in _ROWS],
        "reasoning": [_several(one.reasoning) for one in _ROWS],
        "signed reasoning goes back": [_yes(one.signatures) for one in _ROWS],
        "continues a partial answer": [_yes(one.prefill) for one in _ROWS],
        "raw prompts": [_yes(one.raw) for one in _ROWS],
        "answers per request": [str(one.choices) for one in _ROWS],
        "end user": [_yes(one.end_user) for one in _ROWS],
        "embeddings": [_yes(one.embeddings) for one in _ROWS],
        "list of models": [_yes(one.model_list) for one in _ROWS],
        "token count": [_yes(one.token_count) for one in _ROWS],
    }
    head = ["", *MATRIX]
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _yes(value: object) -> str:
    return "yes" if value else "-"


def _several(values: frozenset[str]) -> str:
    return ", ".join(sorted(values)) or "-"


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return "-"
    text = f"`{limit.wire}`"
    if limit.low is not None or limit.high is not None:
        low = "" if limit.low is None else f"{limit.low:g}"
        high = "" if limit.high is None else f"{limit.high:g}"
        text += f" {'(' if limit.low_open else '['}{low}, {high}{')' if limit.high_open or not high else ']'}"
    if limit.items is not None:
        text += f" at most {limit.items}"
    if limit.length is not None:
        text += f" of {limit.length} characters"
    if limit.raw_only:
        text += " raw prompts only"
    if limit.required is not None:
        text += f" required, {limit.required} if absent"
    return text
