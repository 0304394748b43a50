"""llama.cpp's server: its own completions, its counts and its state; its chats are OpenAI's.

What it shares with Hugging Face's TGI is told apart by the body: ``/tokenize`` is asked about ``inputs`` there and
``content`` here. The kernel's drivers count tokens and do not show them, so that both are refused with what to do
instead. ``/health`` looks the same in both.
"""

from byenatos_sdk.formats import huggingface_tgi, llamacpp_server
from byenatos_sdk.formats.wire import read_object
from byenatos_sdk.protocol.errors import NotFound, Unavailable, Unsupported
from http_front.exchange import Request, Response, json_response, of_wire
from http_front.huggingface import main_model
from http_front.metrics import is_ready
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["LlamaCpp"]

BUILD = "byenatos"
"""What stands where a server of llama.cpp's names its build."""
_COUNTED = "tokens are not shown here; /v1/chat/completions/input_tokens counts them"


class LlamaCpp:
    """Its handlers."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def enter(self, routes: Routes) -> None:
        """Enter its paths."""
        infer, embed = self._verbs.infer(llamacpp_server, "cmpl-"), self._verbs.embed(llamacpp_server)
        for path in ("/completion", "/completions", "/chat/completions"):
            routes.add("POST", path, infer, llamacpp_server)
        for path in ("/embedding", "/embeddings"):
            routes.add("POST", path, embed, llamacpp_server)
        count = self._verbs.count(llamacpp_server)
        routes.add("POST", "/v1/chat/completions/input_tokens", count, llamacpp_server)
        routes.add("GET", "/models", self._verbs.list(llamacpp_server), llamacpp_server)
        routes.add("GET", "/health", self._health, llamacpp_server, "open")
        routes.add("GET", "/props", self._props, llamacpp_server)
        routes.add("GET", "/slots", self._slots, llamacpp_server)
        routes.add("POST", "/tokenize", self._tokenize, llamacpp_server)
        routes.add("POST", "/detokenize", self._detokenize, llamacpp_server)

    async def _health(self, _: Request) -> Response:
        if not any(is_ready(slot) for slot in await self._verbs.kernel.slots()):
            raise Unavailable("Loading model")
        return json_response({"status": "ok"})

    async def _props(self, request: Request) -> Response:
        asked = request.query.get("model")
        models = self._verbs.models
        found = await (models.find(asked, request.client) if asked else main_model(models, request))
        if found is None:
            raise NotFound("model: expected one to describe, found none")
        return of_wire(llamacpp_server.encode_props(found, build=BUILD))

    async def _slots(self, request: Request) -> Response:
        listed = {one.id: one for one in await self._verbs.models.listed(request.client)}
        slots = [slot for slot in await self._verbs.kernel.slots() if slot.name in listed]
        return of_wire(llamacpp_server.encode_slots([(listed[slot.name], slot.streams) for slot in slots]))

    async def _tokenize(self, request: Request) -> Response:
        if "inputs" in read_object(request.body):
            return of_wire(huggingface_tgi.encode_error(Unsupported(f"tokenize: {_COUNTED}")))
        return _unsupported(f"tokenize: {_COUNTED}")

    async def _detokenize(self, _: Request) -> Response:
        return _unsupported("detokenize: ids of tokens are not read here; send texts")


def _unsupported(message: str) -> Response:
    """Refuse what the server has and the kernel has not, as a server that was started without it does."""
    return json_response({"error": {"code": 501, "message": message, "type": "not_supported_error"}}, 501)
