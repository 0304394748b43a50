"""llama.cpp's server: its own completions, its counts and its state; its chats are OpenAI's.

What it shares with Hugging Face's TGI is told apart by the body: ``/tokenize`` is asked about ``inputs`` there and
``content`` here. Tokens are known by drivers of local models only; the others refuse. ``/health`` looks the same in
both.
"""

from typing import Annotated, Any

import msgspec

from byenatos_sdk.formats import huggingface_tgi, llamacpp_server
from byenatos_sdk.formats.wire import read_as, read_object
from byenatos_sdk.protocol.errors import NotFound, Unavailable, Unsupported
from byenatos_sdk.protocol.messages import Tokens
from http_front.exchange import Request, Response, json_response, of_wire
from http_front.huggingface import main_model
from http_front.metrics import is_ready
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["LlamaCpp"]

BUILD = "byenatos"
"""What stands where a server of llama.cpp's names its build."""


class _Tokenize(msgspec.Struct, frozen=True):
    """What llama.cpp's server is asked; ``model`` is a slot or a model here."""

    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    model: str = ""


class _Detokenize(msgspec.Struct, frozen=True):
    tokens: Annotated[tuple[int, ...], msgspec.Meta(max_length=1 << 20)]
    model: str = ""


class _Inputs(msgspec.Struct, frozen=True):
    """What text-generation-inference is asked."""

    inputs: str
    add_special_tokens: bool = True


_tokenize = msgspec.json.Decoder(_Tokenize)
_detokenize = msgspec.json.Decoder(_Detokenize)
_inputs = msgspec.json.Decoder(_Inputs)


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
        generation = "inputs" in read_object(request.body)
        try:
            return await (self._split_inputs(request) if generation else self._split_content(request))
        except Unsupported as error:
            return of_wire(huggingface_tgi.encode_error(error)) if generation else _unsupported(error)

    async def _split_inputs(self, request: Request) -> Response:
        asked = read_as(_inputs, request.body)
        model = _model(request, "")
        found = await self._verbs.kernel.tokenize(asked.inputs, model=model, begin=asked.add_special_tokens)
        return json_response(_with_places(found, asked.inputs))

    async def _split_content(self, request: Request) -> Response:
        asked = read_as(_tokenize, request.body)
        found = await self._verbs.kernel.tokenize(
            asked.content, model=_model(request, asked.model), special=asked.parse_special, begin=asked.add_special
        )
        if not asked.with_pieces:
            return json_response({"tokens": found.ids})
        pieces = [{"id": one, "piece": _piece(piece)} for one, piece in zip(found.ids, found.pieces, strict=True)]
        return json_response({"tokens": pieces})

    async def _detokenize(self, request: Request) -> Response:
        asked = read_as(_detokenize, request.body)
        try:
            found = await self._verbs.kernel.detokenize(asked.tokens, model=_model(request, asked.model))
        except Unsupported as error:
            return _unsupported(error)
        return json_response({"content": found.text})


def _unsupported(error: Unsupported) -> Response:
    """Refuse what the server has and the model's driver has not, as a server that was started without it does."""
    return json_response({"error": {"code": 501, "message": error.message, "type": "not_supported_error"}}, 501)


def _model(request: Request, named: str) -> str:
    return request.check_model(request.headers.get("x-byenatos-slot") or named or "default")


def _piece(piece: bytes) -> str | list[int]:
    """A piece as llama.cpp's server says it: a text or, where it is a part of a character, its bytes."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


def _with_places(found: Tokens, text: str) -> list[dict[str, Any]]:
    """Tokens as text-generation-inference says them: with where each stands in the text, in characters.

    What a model puts before a text, such as a token for its beginning or a space, is not in it.
    """
    data = text.encode(errors="replace")
    at = place = 0
    said: list[dict[str, Any]] = []
    for number, piece in zip(found.ids, found.pieces, strict=True):
        here = piece if data.startswith(piece, at) else piece.removeprefix(b" ")
        size = len(here) if data.startswith(here, at) else 0
        begun = place
        place += sum(byte & 0xC0 != 0x80 for byte in data[at : at + size])
        at += size
        said.append({"id": number, "text": piece.decode("utf-8", "replace"), "start": begun, "stop": place})
    return said
