"""How much to think: ``thinkingConfig``.

``thinkingLevel`` is what models from Gemini 3 on take, ``thinkingBudget`` (tokens; 0: off, -1: as the model likes) what
the older ones do; ``includeThoughts`` asks for a summary of the thoughts.
"""

import re
from collections.abc import Callable
from typing import Any

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.wire import Action
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Effort, ReasoningOptions

__all__ = ["generation_of", "read_thinking", "write_thinking"]

_LEVELS: dict[str, Effort] = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}
_BUDGETS: dict[Effort, int] = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Budgets that stand for an effort where a model knows no levels."""
DYNAMIC: Effort = "medium"
"""What a budget of -1 comes to for other vendors: thinking, as much as the model likes."""
_GENERATION = re.compile(r"gemini-(\d+)")

Lose = Callable[[str, Action, str], None]


def generation_of(model: str) -> int | None:
    """Return which generation of Gemini a model is of, ``None`` if its name does not say."""
    found = _GENERATION.search(model)
    return int(found[1]) if found and len(found[1]) < 4 else None


def write_thinking(options: ReasoningOptions | None, model: str, own: Any, lose: Lose) -> dict[str, Any]:
    """Return ``thinkingConfig``, empty for the model's own default; ``own`` is what was kept of a client's."""
    if options is None:
        return {}
    config: dict[str, Any] = {}
    if options.summary is not None:
        config["includeThoughts"] = True
    effort, budget = options.effort, options.budget
    if isinstance(own, dict) and effort == DYNAMIC and budget is None:
        return own | config
    if budget is not None:
        if effort not in {None, "none"}:
            lose("reasoning.effort", "dropped", "the API takes either a level or a budget")
        config["thinkingBudget"] = budget
    elif effort == "none":
        config["thinkingBudget"] = 0
    elif effort is not None and (generation_of(model) or 3) < 3:
        config["thinkingBudget"] = _BUDGETS[effort]
    elif effort is not None:
        if effort == "max":
            lose("reasoning.effort", "clamped", "the API's highest level is XHIGH")
        config["thinkingLevel"] = "XHIGH" if effort == "max" else effort.upper()
    return config


def read_thinking(config: Fields | None) -> ReasoningOptions | None:
    """Return what a client's ``thinkingConfig`` says.

    Raises:
        InvalidRequest: it names a level that the API does not know.
    """
    if config is None:
        return None
    level = (config.text("thinkingLevel") or "").upper().removeprefix("THINKING_LEVEL_")
    if level and level != "UNSPECIFIED" and level not in _LEVELS:
        raise InvalidRequest(f"{config.name('thinkingLevel')}: expected one of {', '.join(_LEVELS)}, found {level!r}")
    effort = _LEVELS.get(level)
    budget = config.whole("thinkingBudget")
    if budget == 0:
        effort, budget = "none", None
    elif budget is not None and budget < 0:
        effort, budget = effort or DYNAMIC, None
    options = ReasoningOptions(effort, budget, "auto" if config.flag("includeThoughts") else None)
    return None if options == ReasoningOptions() else options
