"""Log probabilities: the shape of chats, the older one of completions, and canonical ones."""

from collections.abc import Iterable
from typing import Any

from byenatos_sdk.protocol.messages import TokenLogprob

__all__ = ["read_logprobs", "write_logprobs", "write_old_logprobs"]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


def _token(one: Any) -> TokenLogprob | None:
    if not isinstance(one, dict) or not isinstance(one.get("token"), str):
        return None
    value = _number(one.get("logprob"))
    if value is None:
        return None
    top: list[tuple[str, float]] = []
    others = one.get("top_logprobs")
    for other in others if isinstance(others, list) else ():
        inner = _token(other)
        if inner is not None:
            top.append((inner.token, inner.logprob))
    return TokenLogprob(one["token"], value, tuple(top))


def read_logprobs(logprobs: Any) -> tuple[TokenLogprob, ...]:
    """Read either shape; what is malformed is left out."""
    if not isinstance(logprobs, dict):
        return ()
    found: list[TokenLogprob | None] = []
    for field in ("content", "refusal"):
        value = logprobs.get(field)
        found += [_token(one) for one in value] if isinstance(value, list) else []
    if isinstance(logprobs.get("tokens"), list):
        found += _old(logprobs)
    return tuple(one for one in found if one is not None)


def _old(logprobs: dict[str, Any]) -> Iterable[TokenLogprob | None]:
    values = logprobs.get("token_logprobs")
    tops = logprobs.get("top_logprobs")
    values = values if isinstance(values, list) else []
    for at, (token, value) in enumerate(zip(logprobs["tokens"], values, strict=False)):
        top = tops[at] if isinstance(tops, list) and at < len(tops) and isinstance(tops[at], dict) else {}
        one = {"token": token, "logprob": value}
        yield _token(one | {"top_logprobs": [{"token": key, "logprob": number} for key, number in top.items()]})


def _written(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def write_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Write the shape of chats."""
    content = [
        {**_written(one.token, one.logprob), "top_logprobs": [_written(token, value) for token, value in one.top]}
        for one in tokens
    ]
    return {"content": content, "refusal": None}


def write_old_logprobs(tokens: Iterable[TokenLogprob], offset: int = 0) -> dict[str, Any]:
    """Write the shape of completions, whose offsets count characters; the first token stands at ``offset``."""
    written: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for one in tokens:
        written["tokens"].append(one.token)
        written["token_logprobs"].append(one.logprob)
        written["top_logprobs"].append(dict(one.top))
        written["text_offset"].append(offset)
        offset += len(one.token)
    return written
