"""The words of llama.cpp's server in which its chats differ from OpenAI's."""

from byenatos_sdk.formats.llamacpp_server.completion import as_chat
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat.profile import Profile, Written
from byenatos_sdk.protocol.messages import ReasoningOptions

__all__ = ["PROFILE", "SAMPLERS"]

SAMPLERS = frozenset(
    {
        "cache_prompt",
        "dry_allowed_length",
        "dry_base",
        "dry_multiplier",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "dynatemp_exponent",
        "dynatemp_range",
        "grammar",
        "grammar_lazy",
        "grammar_triggers",
        "id_slot",
        "ignore_eos",
        "lora",
        "min_keep",
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "n_cmpl",
        "n_discard",
        "n_indent",
        "n_keep",
        "post_sampling_probs",
        "repeat_last_n",
        "response_fields",
        "return_progress",
        "return_tokens",
        "samplers",
        "sse_ping_interval",
        "t_max_predict_ms",
        "timings_per_token",
        "top_n_sigma",
        "typical_p",
        "xtc_probability",
        "xtc_threshold",
    }
)
"""Fields of both kinds of requests that have no canonical name."""


def _reasoning(options: ReasoningOptions) -> Written:
    """Say how much to think to the chat template: whether, and how hard where the template knows degrees."""
    if options.effort is None:
        return {}
    template: Written = {"enable_thinking": options.effort != "none"}
    if options.effort not in {"none", "medium"}:
        template["reasoning_effort"] = options.effort
    return {"chat_template_kwargs": template}


PROFILE = Profile(
    "llamacpp_server",
    MATRIX["llamacpp_server"],
    root="/v1",
    reasoning=_reasoning,
    extra=SAMPLERS
    | {
        "chat_template_kwargs",
        "parse_tool_calls",
        "reasoning_budget_tokens",
        "reasoning_format",
        "thinking_forced_open",
    },
    as_chat=as_chat,
)
