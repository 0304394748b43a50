"""Hugging Face's TGI: a text is continued by paths of its own; its chats are at OpenAI's address.

What it shares with llama.cpp's server (``/health``, ``/tokenize``) is answered there. The server's root takes texts to
continue and, from clients that want a feature extracted, texts to turn into vectors: the body says which, and where it
does not, the client is known by its name.
"""

from msgspec.structs import replace

from byenatos_sdk.formats import huggingface_tgi
from byenatos_sdk.formats.wire import read_object
from byenatos_sdk.protocol.messages import ModelSpecification
from http_front.exchange import Request, Response, Stream, of_wire
from http_front.models import Models
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["HuggingFace", "main_model"]

_OF_VECTORS = frozenset({"normalize", "truncate", "truncation_direction", "prompt_name", "dimensions"})
_OF_TEXTS = frozenset({"parameters", "stream"})


class HuggingFace:
    """Its handlers."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._embed = verbs.embed(huggingface_tgi)

    def enter(self, routes: Routes) -> None:
        """Enter its paths."""
        routes.add("POST", "/generate", self._infer, huggingface_tgi)
        routes.add("POST", "/generate_stream", self._infer, huggingface_tgi)
        routes.add("POST", "/", self._either, huggingface_tgi)
        routes.add("POST", "/embed", self._embed, huggingface_tgi)
        routes.add("GET", "/info", self._info, huggingface_tgi)

    async def _infer(self, request: Request) -> Response | Stream:
        """Continue a text; details have the tokens in them, which models tell with their log probabilities."""
        decoded = huggingface_tgi.decode_request(request.wire)
        asked = decoded.request
        if asked.extra.get("details") is True and asked.sampling.logprobs is None:
            asked = replace(asked, sampling=replace(asked.sampling, logprobs=0))
            decoded = replace(decoded, request=asked)
        return await self._verbs.answering.answer(request, huggingface_tgi, prefix="", decoded=decoded)

    async def _either(self, request: Request) -> Response | Stream:
        if _wants_vectors(request):
            return await self._embed(request)
        answer = await self._infer(request)
        if isinstance(answer, Response):  # hosted models, whose address this is, put it into a list
            return answer._replace(body=b"[" + answer.body + b"]")
        return answer

    async def _info(self, request: Request) -> Response:
        found = await main_model(self._verbs.models, request)
        return of_wire(huggingface_tgi.encode_models([] if found is None else [found], 0))


def _wants_vectors(request: Request) -> bool:
    body = read_object(request.body)
    if isinstance(body.get("inputs"), list) or _OF_VECTORS & body.keys():
        return True
    # huggingface_hub sends the parameters of a text that is to be continued always, of vectors only if there are any
    return not _OF_TEXTS & body.keys() and "hf_hub/" in request.headers.get("user-agent", "")


async def main_model(models: Models, request: Request) -> ModelSpecification | None:
    """Return what stands for the one model that a server of this kind has: what ``default`` is, else the first."""
    listed = await models.listed(request.client)
    return next((one for one in listed if one.id == "default"), listed[0] if listed else None)
