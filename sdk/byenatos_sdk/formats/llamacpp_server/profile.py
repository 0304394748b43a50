"""The words of llama.cpp's server in which its chats differ from OpenAI's."""

from byenatos_sdk.formats.llamacpp_server.completion import as_chat
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat.own_fields import OWN_FIELDS
from byenatos_sdk.formats.openai_chat.profile import Profile, Written
from byenatos_sdk.protocol.messages import ReasoningOptions

__all__ = ["PROFILE"]


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
    extra=OWN_FIELDS["llamacpp_server"],
    as_chat=as_chat,
)
