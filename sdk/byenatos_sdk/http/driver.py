"""A driver for a vendor that speaks HTTP: say in which format and where, and the rest is done.

::

    class Acme(HTTPDriver):
        format = openai_chat
        base_url = "https://api.acme.example/v1"

What is done: requests are fitted to the format and what that cost is told in ``Finish.adapted``; they go through the
egress broker, which has the keys, on connections that are kept; failures before the first word are tried again where
that is safe; stop sequences that the vendor does not know are cut here; a JSON schema that it does not know is asked
for in words, checked, and repaired once; leaving an answer closes it at the vendor at once.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, ClassVar

from msgspec.structs import replace

from byenatos_sdk.driver import Driver, Model
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat, offers
from byenatos_sdk.formats.uploads import held_back
from byenatos_sdk.http.schema import SchemaCheck, added, check_of
from byenatos_sdk.http.settings import HTTPSettings, capabilities_of, settings_of
from byenatos_sdk.http.vendor import Vendor
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    InferenceRequest,
    ModelHealthStatus,
    ModelSpecification,
    TokenCount,
    ToolCallDelta,
    Usage,
)

__all__ = ["HTTPDriver"]

CHARACTERS_IN_A_TOKEN = 4
"""On average; whoever has the tokenizer knows better."""
MOST_PAGES = 50
"""Pages of a vendor's list of models that are read."""
OF_THE_PLACE = ("base_url", "api", "headers")
"""Settings that a model of the vendor's list shares with the one by which it was asked for."""
FAILURES_IN_A_ROW = 3
"""After so many failures without a success an instance says that it is not well."""


class HTTPDriver(Driver):
    """Subclass it with :attr:`format` and :attr:`base_url`; override what your vendor does otherwise."""

    format: Format
    """How the vendor speaks: a module of ``byenatos_sdk.formats``, or anything that is like one."""
    formats: ClassVar[tuple[Format, ...]] = ()
    """Further ones, which the setting ``api`` chooses by their names."""
    base_url: ClassVar[str] = ""
    """Where; the setting of that name comes before it."""
    headers: ClassVar[Mapping[str, str]] = {}
    """Sent with every request. Never a key: the broker puts that in."""
    embedding_inputs: ClassVar[int] = 2048
    """Texts in one request for embeddings; more are sent in several."""
    Settings: ClassVar[type[HTTPSettings]] = HTTPSettings
    """What may be set; a subclass has more."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.options = settings_of(settings, self.Settings)
        self.spoken = self._spoken(self.options.api)
        self.capabilities: Capabilities = capabilities_of(self.spoken.CAPABILITIES, self.options)
        self.continues = self.capabilities.prefill
        self.vendor_model = self.options.model

    async def start(self, model: Model) -> ModelSpecification:
        """Make ready. The vendor is not asked: that it is away is no reason not to start."""
        self.vendor_model = self.options.model or model.id
        self.vendor = Vendor(self.options.base_url or self.base_url, dict(self.headers), self.options)
        return ModelSpecification(model.id, metadata={"vendor_model": self.vendor_model})

    async def stop(self) -> None:
        """Close the connections."""
        self.vendor.close()

    # ---- answers -----------------------------------------------------------------------------------------------

    async def infer(self, request: InferenceRequest) -> AsyncIterator[str | Delta]:
        """Ask the vendor and yield what it says."""
        request = self.prepared(request)
        check = check_of(request, self.capabilities)
        due = self.vendor.due(request.timeout_s)
        answer = self._answer(request, due) if check is None else self._checked(request, due, check)
        try:
            async for delta in answer:
                yield delta
        finally:
            await answer.aclose()

    def prepared(self, request: InferenceRequest) -> InferenceRequest:
        """Return the request with the vendor's name for the model and the operator's own parameters.

        Of an answer that goes on here, what it has said already counts against its tokens, as nearly as can be told.
        """
        extra = {**self.options.extra, **request.extra} if self.options.extra else request.extra
        sampling = request.sampling
        if request.continued and sampling.max_tokens is not None:
            left = max(1, sampling.max_tokens - request.continued // CHARACTERS_IN_A_TOKEN)
            sampling = replace(sampling, max_tokens=left)
        return replace(request, model=self.vendor_model, extra=extra, sampling=sampling)

    async def _answer(self, request: InferenceRequest, due: float) -> AsyncGenerator[str | Delta, None]:
        with held_back() as held:
            encoded = self.spoken.encode_request(
                request, stream=self.options.stream, strict=request.strict, capabilities=self.capabilities
            )
        opened = await self.vendor.open(encoded, self.spoken, due, held)
        del encoded, held  # nothing of it is sent again: images would be held as long as the answer takes
        try:
            for delta in opened.first:
                yield delta
            answer = opened.rest
            while answer is not None and not answer.over:
                for delta in await answer.more():
                    yield delta
        finally:
            opened.close()

    async def _checked(
        self, request: InferenceRequest, due: float, check: SchemaCheck
    ) -> AsyncGenerator[str | Delta, None]:
        """Hold the text back until it is known to be the JSON that was asked for; let the model correct it once."""
        usage: Usage | None = None
        for last in (False, True):
            texts: list[str] = []
            calls = False
            async for delta in self._answer(request, due):
                if isinstance(delta, str):
                    texts.append(delta)
                    continue
                if not isinstance(delta, Finish):
                    calls = calls or isinstance(delta, ToolCallDelta)
                    yield delta
                    continue
                text = "".join(texts)
                finish = delta if usage is None else replace(delta, usage=added(usage, delta.usage))
                found, wrong = check.judge(text)
                if calls or finish.reason != "stop" or not wrong:
                    yield text if calls else found
                    yield finish
                    return
                if last:
                    said = f"response_format: the answer is not what was asked for, nor was the one before: {wrong}"
                    if check.strict:
                        raise UpstreamFailed(said)
                    yield text
                    yield replace(finish, adapted=(*finish.adapted, said))
                    return
                usage = finish.usage
                request = check.repair(request, text, wrong)

    # ---- the rest ----------------------------------------------------------------------------------------------

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """Ask the vendor for vectors, in as many requests as it takes."""
        spoken = self._offering(EmbeddingFormat, "embeddings")
        asked = replace(request, model=self.vendor_model, extra={**self.options.extra, **request.extra})
        vectors: list[tuple[float, ...]] = []
        usage: Usage | None = None
        for first in range(0, len(request.inputs), self.embedding_inputs):
            part = replace(asked, inputs=request.inputs[first : first + self.embedding_inputs])
            wire = spoken.encode_embedding_request(part)
            found = spoken.decode_embedding_response(await self.vendor.fetch(wire, spoken))
            if len(found.vectors) != len(part.inputs):
                raise UpstreamFailed(f"expected {len(part.inputs)} vectors, found {len(found.vectors)}")
            if not all(found.vectors):
                raise UpstreamFailed("expected numbers in every vector, found one without any")
            vectors += found.vectors
            usage = found.usage if usage is None else added(usage, found.usage)
        return EmbeddingResponse(tuple(vectors), self.vendor_model, usage or Usage())

    async def count_tokens(self, request: InferenceRequest) -> TokenCount:
        """Ask the vendor how many tokens the request's input comes to."""
        spoken = self._offering(TokenCountFormat, "token counts")
        wire = spoken.encode_count_request(self.prepared(request))
        counted: TokenCount = spoken.decode_count(
            await self.vendor.fetch(wire, spoken, self.vendor.due(request.timeout_s))
        )
        return replace(counted, model=self.vendor_model)

    async def models(self) -> list[ModelSpecification]:
        """Ask the vendor for its list. Its models are reached as this one is: their ``settings`` say so."""
        spoken = self._offering(ModelListFormat, "list of models")
        found: list[ModelSpecification] = []
        page = ""
        for _ in range(MOST_PAGES):
            more, page = spoken.decode_models(await self.vendor.fetch(spoken.encode_models_request(page), spoken))
            found += more
            if not page:
                break
        place = {name: self.settings[name] for name in OF_THE_PLACE if name in self.settings}
        return [replace(one, settings=place) for one in found]

    async def health(self) -> ModelHealthStatus:
        """Say how the last requests went; nothing is sent for it."""
        vendor = self.vendor
        metrics = {"requests": float(vendor.requests), "failures_in_a_row": float(vendor.failures)}
        if vendor.failures < FAILURES_IN_A_ROW:
            return ModelHealthStatus(metrics=metrics)
        said = f"the last {vendor.failures} requests failed: {vendor.last_failure}"
        return ModelHealthStatus("degraded", said, metrics)

    def _spoken(self, api: str) -> Format:
        """Return the format that the setting ``api`` chooses."""
        known = {one.NAME: one for one in (self.format, *self.formats)}
        if api and api not in known:
            raise InvalidRequest(f"settings: api: expected one of {', '.join(known)}, found {api!r}")
        return known[api] if api else self.format

    def _offering(self, kind: Any, what: str) -> Any:
        """Return the first of the driver's formats that can say ``kind``."""
        for one in (self.spoken, self.format, *self.formats):
            if offers(one, kind):
                return one
        raise Unsupported(f"{type(self).__name__} knows no {what} of its vendor")
