"""Vendors and servers that speak OpenAI's chats with small changes, one dialect each, by name in :data:`DIALECTS`.

Sources: the vendors' API references and lists of error codes, as of 2026 (api-docs.deepseek.com, openrouter.ai/docs,
docs.bigmodel.cn, platform.moonshot.ai, volcengine.com/docs). ``generic`` is for any other server: OpenAI's parameters
under the names that older servers know too.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from byenatos_sdk.formats.capabilities import Capabilities, Limit
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat import Dialect, Profile
from byenatos_sdk.formats.openai_chat.own_fields import OWN_FIELDS
from byenatos_sdk.formats.openai_chat.profile import Written
from byenatos_sdk.protocol.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import ReasoningOptions

__all__ = ["DIALECTS", "ark", "deepseek", "generic", "moonshot", "openrouter", "zhipu"]

_OPENAI = MATRIX["openai_chat"]
_MAX = Limit("max_tokens", 1)


def _able(name: str, *without: str, limits: Mapping[str, Limit] | None = None, **more: object) -> Capabilities:
    """Return OpenAI's capabilities under another name, less the parameters ``without``, with ``more``."""
    parameters = {key: limit for key, limit in _OPENAI.parameters.items() if key not in without}
    parameters |= {"max_tokens": _MAX} | dict(limits or {})
    nothing: frozenset[str] = frozenset()
    return replace(_OPENAI, format=name, parameters=parameters, **{"audio": False, "files": nothing} | more)


def _thinking(options: ReasoningOptions) -> Written:
    """Switch thinking on or off as DeepSeek, Zhipu, Moonshot and Ark do."""
    return (
        {} if options.effort is None else {"thinking": {"type": "disabled" if options.effort == "none" else "enabled"}}
    )


def _openrouter_reasoning(options: ReasoningOptions) -> Written:
    if options.effort == "none":
        return {"reasoning": {"enabled": False}}
    said: Written = {} if options.effort is None else {"effort": options.effort}
    return {"reasoning": said if options.budget is None else {"max_tokens": options.budget}}


generic = Dialect(
    Profile(
        "openai_compatible",
        _able("openai_compatible", raw=True, audio=True, files=_OPENAI.files),
        extra=OWN_FIELDS["openai_compatible"],
    )
)

deepseek = Dialect(
    Profile(
        "deepseek",
        _able(
            "deepseek",
            "seed",
            "logit_bias",
            limits={"stop": Limit("stop", items=16)},
            images=frozenset(),
            parallel_switch=False,
            outputs=frozenset({"json_object"}),
            reasoning=frozenset({"switch"}),
            choices=1,
            end_user=False,
            embeddings=False,
        ),
        reasoning=_thinking,
        failures={"insufficient_system_resource": Overloaded},
    )
)

openrouter = Dialect(
    Profile(
        "openrouter",
        _able(
            "openrouter",
            limits={
                "top_k": Limit("top_k", 0),
                "min_p": Limit("min_p", 0, 1),
                "repetition_penalty": Limit("repetition_penalty", 0, 2, low_open=True),
            },
            audio=True,
            files=frozenset({"data"}),
            reasoning=frozenset({"effort", "budget", "switch"}),
            reasoning_history=True,
            prefill=True,
            choices=1,
        ),
        reasoning=_openrouter_reasoning,
        reasoning_text="reasoning",
        extra=OWN_FIELDS["openrouter"],
        kinds={"403": ContentFiltered},
    )
)

zhipu = Dialect(
    Profile(
        "zhipu",
        _able(
            "zhipu",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "logprobs",
            "logit_bias",
            limits={
                "temperature": Limit("temperature", 0, 1),
                "top_p": Limit("top_p", 0.01, 1),
                "stop": Limit("stop", items=1),
            },
            tool_choices=frozenset({"auto"}),
            parallel_switch=False,
            outputs=frozenset({"json_object"}),
            reasoning=frozenset({"switch"}),
            choices=1,
            end_user=False,
        ),
        reasoning=_thinking,
        extra=OWN_FIELDS["zhipu"],
        usage_option=False,
        finishes={"model_context_window_exceeded": ("length", "context_length")},
        failures={"network_error": UpstreamFailed},
        kinds={
            "500": UpstreamFailed,
            "1000": Unauthenticated,
            "1001": Unauthenticated,
            "1002": Unauthenticated,
            "1003": Unauthenticated,
            "1004": Unauthenticated,
            "1110": PermissionDenied,
            "1111": Unauthenticated,
            "1112": PermissionDenied,
            "1113": QuotaExceeded,
            "1120": UpstreamFailed,
            "1121": PermissionDenied,
            "1210": InvalidRequest,
            "1211": NotFound,
            "1212": InvalidRequest,
            "1213": InvalidRequest,
            "1214": InvalidRequest,
            "1215": InvalidRequest,
            "1220": PermissionDenied,
            "1221": NotFound,
            "1222": NotFound,
            "1230": UpstreamFailed,
            "1234": UpstreamFailed,
            "1261": ContextLengthExceeded,
            "1301": ContentFiltered,
            "1302": RateLimited,
            "1303": RateLimited,
            "1304": QuotaExceeded,
            "1305": RateLimited,
            "1308": QuotaExceeded,
            "1309": QuotaExceeded,
            "1310": QuotaExceeded,
            "1311": PermissionDenied,
            "1312": Overloaded,
            "1313": RateLimited,
        },
    )
)

moonshot = Dialect(
    Profile(
        "moonshot",
        _able(
            "moonshot",
            "seed",
            "logprobs",
            "logit_bias",
            limits={"temperature": Limit("temperature", 0, 1), "stop": Limit("stop", items=5, length=32)},
            images=frozenset({"data"}),
            tool_choices=frozenset({"none", "auto"}),
            parallel_switch=False,
            reasoning=frozenset({"switch"}),
            reasoning_history=True,
            prefill=True,
            choices=5,
            end_user=False,
            embeddings=False,
        ),
        reasoning=_thinking,
        extra=OWN_FIELDS["moonshot"],
        continue_message={"partial": True},
        kinds={
            "content_filter": ContentFiltered,
            "engine_overloaded_error": Overloaded,
            "exceeded_current_quota_error": QuotaExceeded,
            "incorrect_api_key_error": Unauthenticated,
            "invalid_authentication_error": Unauthenticated,
            "permission_denied_error": PermissionDenied,
            "rate_limit_reached_error": RateLimited,
            "resource_not_found_error": NotFound,
        },
    )
)

ark = Dialect(
    Profile(
        "ark",
        _able("ark", "seed", reasoning=frozenset({"switch"}), choices=1, end_user=False),
        reasoning=_thinking,
        extra=OWN_FIELDS["ark"],
        kinds={
            "AccessDenied": PermissionDenied,
            "AccountOverdueError": QuotaExceeded,
            "AuthenticationError": Unauthenticated,
            "InputImageRiskDetection": ContentFiltered,
            "InputImageSensitiveContentDetected": ContentFiltered,
            "InputTextRiskDetection": ContentFiltered,
            "InputTextSensitiveContentDetected": ContentFiltered,
            "InternalServiceError": UpstreamFailed,
            "InvalidAccountStatus": PermissionDenied,
            "InvalidEndpointOrModel": NotFound,
            "ModelNotOpen": PermissionDenied,
            "OutputTextRiskDetection": ContentFiltered,
            "OutputTextSensitiveContentDetected": ContentFiltered,
            "QuotaExceeded": QuotaExceeded,
            "RateLimitExceeded": RateLimited,
            "SensitiveContentDetected": ContentFiltered,
            "ServerOverloaded": Overloaded,
            "SetLimitExceeded": QuotaExceeded,
        },
    )
)

DIALECTS: Mapping[str, Dialect] = {
    "generic": generic,
    "deepseek": deepseek,
    "openrouter": openrouter,
    "zhipu": zhipu,
    "moonshot": moonshot,
    "ark": ark,
}
"""Every dialect, by the name of who speaks it."""
