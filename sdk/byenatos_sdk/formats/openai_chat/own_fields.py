"""Fields of requests that one server of OpenAI's family has, and that have no canonical name."""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.extras import FORMAT

__all__ = ["OWN_FIELDS", "SAMPLERS", "family_extra"]

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
"""llama.cpp's, of both kinds of requests."""

OWN_FIELDS: Mapping[str, frozenset[str]] = {
    "openai_chat": frozenset(
        {
            "audio",
            "metadata",
            "modalities",
            "moderation",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "service_tier",
            "store",
            "verbosity",
            "web_search_options",
        }
    ),
    "openai_responses": frozenset(),
    "openai_compatible": frozenset({"metadata", "service_tier", "store", "verbosity"}),
    "deepseek": frozenset(),
    "openrouter": frozenset(
        {
            "metadata",
            "models",
            "plugins",
            "prediction",
            "provider",
            "route",
            "session_id",
            "top_a",
            "transforms",
            "usage",
            "verbosity",
            "web_search_options",
        }
    ),
    "zhipu": frozenset({"do_sample", "request_id", "tool_stream", "user_id"}),
    "moonshot": frozenset({"prompt_cache_key", "safety_identifier"}),
    "ark": frozenset({"caching", "service_tier"}),
    "vllm": frozenset(
        {
            "add_special_tokens",
            "allowed_token_ids",
            "bad_words",
            "best_of",
            "cache_salt",
            "chat_template",
            "chat_template_kwargs",
            "documents",
            "echo",
            "ignore_eos",
            "include_reasoning",
            "include_stop_str_in_output",
            "kv_transfer_params",
            "length_penalty",
            "min_tokens",
            "mm_processor_kwargs",
            "priority",
            "prompt_logprobs",
            "request_id",
            "return_token_ids",
            "skip_special_tokens",
            "spaces_between_special_tokens",
            "stop_token_ids",
            "structured_outputs",
            "truncate_prompt_tokens",
            "use_beam_search",
            "vllm_xargs",
        }
    ),
    "qianfan": frozenset(
        {
            "disable_search",
            "enable_citation",
            "enable_trace",
            "extra_parameters",
            "metadata",
            "safety_level",
            "web_search",
        }
    ),
    "llamacpp_server": SAMPLERS
    | {
        "chat_template_kwargs",
        "parse_tool_calls",
        "reasoning_budget_tokens",
        "reasoning_format",
        "thinking_forced_open",
    },
    "huggingface_tgi": frozenset({"adapter_id", "guideline", "tool_prompt"}),
    "meta": frozenset(),
    "meta_model_api": frozenset(),
}
"""By format. A parameter of one, kept in ``extra``, means the same to another that knows its name."""


def family_extra(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of a request's ``extra`` a format of OpenAI's family may write, if it knows the names."""
    return extra if extra.get(FORMAT, "openai_chat") in OWN_FIELDS else {}
