"""Counts of tokens: OpenAI's fields, those that its dialects add, and canonical ones."""

from typing import Any

from byenatos_sdk.protocol.messages import Usage

__all__ = ["count", "read_usage", "write_usage"]


def count(value: Any) -> int | None:
    """Return a count, however it is written; ``None`` for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return int(value)


def _inner(usage: dict[str, Any], field: str, key: str) -> int | None:
    details = usage.get(field)
    return count(details.get(key)) if isinstance(details, dict) else None


def read_usage(usage: Any) -> Usage | None:
    """Read counts; ``None`` where there are none."""
    if not isinstance(usage, dict):
        return None
    read = count(usage.get("prompt_tokens"))
    written = count(usage.get("completion_tokens"))
    if read is None and written is None:
        return None
    cached = _inner(usage, "prompt_tokens_details", "cached_tokens")
    if cached is None:  # DeepSeek, Moonshot
        cached = count(usage.get("prompt_cache_hit_tokens")) or count(usage.get("cached_tokens"))
    return Usage(
        read,
        written,
        cached or 0,
        _inner(usage, "prompt_tokens_details", "cache_write_tokens") or 0,
        _inner(usage, "completion_tokens_details", "reasoning_tokens") or 0,
    )


def write_usage(usage: Usage) -> dict[str, Any] | None:
    """Write counts; ``None`` if nothing is known."""
    read, written = usage.input_tokens, usage.output_tokens
    if read is None and written is None:
        return None
    prompt = {"cached_tokens": usage.cached_tokens}
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": None if read is None or written is None else read + written,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
