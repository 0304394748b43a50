"""A dialect of OpenAI's Chat Completions: the names in which vendors that speak it differ. All else is shared."""

from collections.abc import Callable, Mapping
from typing import Any

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat.own_fields import OWN_FIELDS
from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContentFiltered,
    ContextLengthExceeded,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
    Unsupported,
    UpstreamTimeout,
    error_codes,
    error_from_code,
)
from byenatos_sdk.protocol.messages import FinishReason, ReasoningOptions, Value

__all__ = ["FINISHES", "KINDS", "OPENAI", "Profile", "Written", "effort"]

Written = dict[str, Any]
"""Fields of a request's body."""

FINISHES: Mapping[str, tuple[FinishReason, str]] = {
    "stop": ("stop", ""),
    "eos": ("stop", ""),
    "eos_token": ("stop", ""),
    "end_turn": ("stop", ""),
    "normal": ("stop", ""),
    "stop_sequence": ("stop", "stop_sequence"),
    "length": ("length", ""),
    "context_length": ("length", "context_length"),
    "max_tokens": ("length", ""),
    "model_length": ("length", "context_length"),
    "tool_calls": ("tool_calls", ""),
    "function_call": ("tool_calls", ""),
    "content_filter": ("content_filter", ""),
    "sensitive": ("content_filter", ""),
}
"""Words for the end of an answer, OpenAI's and those that others use in its place."""

_OURS: dict[str, type[ByenatosError]] = {
    code: type(error_from_code(code, "")) for code in error_codes() if code not in {"internal", "invalid_request"}
}

KINDS: Mapping[str, type[ByenatosError]] = _OURS | {
    # codes
    "string_above_max_length": ContextLengthExceeded,
    "invalid_api_key": Unauthenticated,
    "insufficient_quota": QuotaExceeded,
    "billing_hard_limit_reached": QuotaExceeded,
    "billing_not_active": QuotaExceeded,
    "rate_limit_exceeded": RateLimited,
    "slow_down": Overloaded,
    "server_overloaded": Overloaded,
    "engine_overloaded": Overloaded,
    "model_not_found": NotFound,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "moderation_blocked": ContentFiltered,
    "unsupported_country_region_territory": PermissionDenied,
    # types, where the code says nothing
    "authentication_error": Unauthenticated,
    "permission_error": PermissionDenied,
    "not_found_error": NotFound,
    "rate_limit_error": RateLimited,
    "overloaded_error": Overloaded,
    "unavailable_error": Overloaded,
    "timeout_error": UpstreamTimeout,
    "not_supported_error": Unsupported,
    "exceed_context_size_error": ContextLengthExceeded,
    "insufficient_balance": QuotaExceeded,
}
"""Codes and types of errors; among them our own codes, which our own fronts put where OpenAI has none."""


def effort(options: ReasoningOptions) -> Written:
    """Say how much to think as OpenAI does."""
    return {} if options.effort is None else {"reasoning_effort": options.effort}


def _as_it_is(body: Written) -> Written:
    return body


def _no_error(_wire: WireResponse, _body: Any) -> ByenatosError | None:
    return None


class Profile(Value, frozen=True):
    """One dialect.

    ``root`` stands before every path that goes out (``chat/completions``, ``models``…). ``reasoning``: writes how
    much to think. ``reasoning_text``: the field in which reasoning is written, in answers and in earlier turns; all
    known ones are read. ``extra``: fields of a request that have no canonical name and go through ``extra`` under
    their own; ``also_read``: what a client may send beside them, as another server of the family may answer it.
    ``continue_fields``: what to add where the last message is to be continued; ``continue_message``: what
    to add to that message. ``stop_reason``: whether an answer names the stop sequence that ended it.
    ``context_field``: where a list of models says how long a context may be. ``call_type``: the ``type`` of a call of
    an earlier turn, empty to leave it out. ``usage_option``: whether a stream's usage must be asked for. ``finishes``
    and ``kinds``: words of this dialect beyond ``FINISHES`` and ``KINDS``; ``failures``: words for the end of an answer
    that mean that it failed. ``as_chat``: puts an answer, or a chunk of
    one, of another form into OpenAI's (a choice that has both a message and a delta is fine); ``error_of``: finds an
    error of another form in a decoded body.
    """

    name: str
    capabilities: Capabilities
    root: str = ""
    reasoning: Callable[[ReasoningOptions], Written] = effort
    reasoning_text: str = "reasoning_content"
    extra: frozenset[str] = frozenset()
    also_read: frozenset[str] = frozenset()
    continue_fields: Written = {}
    continue_message: Written = {}
    stop_reason: bool = False
    context_field: str = ""
    call_type: str = "function"
    usage_option: bool = True
    finishes: Mapping[str, tuple[FinishReason, str]] = {}
    failures: Mapping[str, type[ByenatosError]] = {}
    kinds: Mapping[str, type[ByenatosError]] = {}
    as_chat: Callable[[Written], Written] = _as_it_is
    error_of: Callable[[WireResponse, Any], ByenatosError | None] = _no_error

    @property
    def has_own_chunks(self) -> bool:
        """Whether the chunks of a stream may have another form than OpenAI's."""
        return self.as_chat is not _as_it_is or self.error_of is not _no_error

    def finish(self, word: str) -> tuple[FinishReason, str]:
        """Return the reason and detail that a vendor's word stands for; an unknown one ends the answer as it says."""
        found = self.finishes.get(word) or FINISHES.get(word)
        return ("stop", word) if found is None else found

    def kind(self, code: str, status: int) -> type[ByenatosError] | None:
        """Return the error that a code or type stands for, if it is known; ``401 code`` counts at that status only."""
        for word in (f"{status} {code}", code, code.partition(".")[0]):
            known = self.kinds.get(word) or KINDS.get(word)
            if known is not None:
                return known
        return None


OPENAI = Profile(
    "openai_chat",
    MATRIX["openai_chat"],
    extra=OWN_FIELDS["openai_chat"],
    also_read=frozenset().union(*OWN_FIELDS.values()) - {"safety_identifier"},  # which is the end user here
)
"""OpenAI's own."""
