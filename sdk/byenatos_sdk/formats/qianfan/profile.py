"""The words of Qianfan's version 2 in which it differs from OpenAI's."""

from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat.own_fields import OWN_FIELDS
from byenatos_sdk.formats.openai_chat.profile import Profile, Written
from byenatos_sdk.formats.qianfan.legacy import as_chat, legacy_error
from byenatos_sdk.protocol.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
)
from byenatos_sdk.protocol.messages import ReasoningOptions

__all__ = ["PROFILE"]


def _reasoning(options: ReasoningOptions) -> Written:
    if options.effort == "none":
        return {"enable_thinking": False}
    return {"enable_thinking": True} | ({} if options.budget is None else {"thinking_budget": options.budget})


PROFILE = Profile(
    "qianfan",
    MATRIX["qianfan"],
    reasoning=_reasoning,
    extra=OWN_FIELDS["qianfan"],
    kinds={
        "401 access_denied": PermissionDenied,
        "401 invalid_appid": PermissionDenied,
        "401 invalid_model": PermissionDenied,
        "account_overdue": QuotaExceeded,
        "characters_too_long": ContextLengthExceeded,
        "invalid_iam_token": Unauthenticated,
        "quota_limit_exceeded": QuotaExceeded,
        "rpm_rate_limit_exceeded": RateLimited,
        "tokens_too_long": ContextLengthExceeded,
        "tpm_rate_limit_exceeded": RateLimited,
        "unsafe_request": ContentFiltered,
    },
    as_chat=as_chat,
    error_of=legacy_error,
)
