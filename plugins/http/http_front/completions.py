"""OpenAI's completions: texts that are continued as they stand."""

from msgspec.structs import replace

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.protocol.errors import Unsupported
from http_front.answering import Answering
from http_front.exchange import Request, Response, Stream

__all__ = ["Completions"]

USUAL_TOKENS = 16
"""What the API writes where a client does not say how much; chats have no such limit."""


class Completions:
    """Its handler."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def __call__(self, request: Request) -> Response | Stream:
        """Answer one request, which may hold several texts."""
        decoded = openai_chat.decode_request(request.wire)
        best_of = decoded.request.extra.get("best_of")
        if best_of not in {None, decoded.choices}:
            raise Unsupported(f"best_of: expected as many as n ({decoded.choices}), found {str(best_of)[:20]}")
        if decoded.request.sampling.max_tokens is None:
            sampling = replace(decoded.request.sampling, max_tokens=USUAL_TOKENS)
            first, *others = (replace(one, sampling=sampling) for one in (decoded.request, *decoded.others))
            decoded = replace(decoded, request=first, others=tuple(others))
        return await self._answering.answer(request, openai_chat, prefix="cmpl-", decoded=decoded)
