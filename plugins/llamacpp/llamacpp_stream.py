"""One answer in the making: its tokens so far, its sampler, its text, and the call that it is emitted to."""

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import ByenatosError, ContextLengthExceeded, InvalidRequest
from byenatos_sdk.protocol.messages import Failure, Finish, FinishReason, InferenceRequest, Usage
from llamacpp_chat import ChatTemplate
from llamacpp_model import LlamaModel
from llamacpp_sampling import Sampler, check_sampling
from llamacpp_seam import Seam
from llamacpp_settings import Settings
from llamacpp_text import TextAssembler

__all__ = ["Stream", "check_request", "failure"]

MAX_STOPS = 16
MAX_STOP = 256


def check_request(request: InferenceRequest) -> None:
    """Refuse what this driver cannot do yet, rather than answer as if it had not been asked.

    Raises:
        InvalidRequest: naming the field.
    """
    if request.tools and request.tool_choice != "none":
        raise InvalidRequest("tools: the llamacpp driver does not support tools yet; send none, or tool_choice 'none'")
    if request.response_format is not None and request.response_format.get("type") != "text":
        raise InvalidRequest("response_format: the llamacpp driver does not support structured answers yet")
    if request.sampling.logprobs is not None:
        raise InvalidRequest("sampling.logprobs: the llamacpp driver does not report log probabilities yet")
    stops = request.sampling.stop
    if len(stops) > MAX_STOPS or any(not 0 < len(stop) <= MAX_STOP for stop in stops):
        raise InvalidRequest(f"sampling.stop: expected at most {MAX_STOPS} texts of 1 to {MAX_STOP} characters")


class Stream:
    """One answer. ``tokens`` are the prompt's and the answer's so far.

    Raises:
        ByenatosError: the request cannot be served as written.
    """

    def __init__(self, call: Call, model: LlamaModel, template: ChatTemplate, settings: Settings) -> None:
        request = call.request
        check_request(request)
        check_sampling(request.sampling, model.vocabulary)
        prompt = template.prompt(request.messages)
        self.call = call
        self.tokens = model.tokenize(prompt.text)
        self.prompt_tokens = len(self.tokens)
        self.answer_tokens = 0
        self.cached_tokens = 0
        self.repeatable = request.sampling.seed is not None
        if self.prompt_tokens >= model.context_length:
            raise ContextLengthExceeded(
                f"expected fewer than {model.context_length} tokens, the context of this instance, found "
                f"{self.prompt_tokens}; shorten the conversation or raise n_ctx"
            )
        self._limit = request.sampling.max_tokens or settings.max_tokens or model.context_length
        if request.continued:
            said = model.tokenize(request.partial[-request.continued :])
            self._limit = max(self._limit - len(said), 1)
        self._model = model
        self._text = TextAssembler(request.sampling.stop + prompt.stops, lstrip=prompt.lstrip)
        self._seam: Seam | None = None
        if prompt.partial:
            self._seam = Seam(model, self.tokens)
            self.tokens = self._seam.tokens
        self._sampler = Sampler(request.sampling, settings, model.vocabulary, self.tokens)

    def advance(self, index: int) -> bool:
        """Take the next token from the logits at ``index`` and emit its text; return whether the answer goes on."""
        if self.call.cancelled:
            return False
        if self._seam is not None:
            return self._advance_seam(self._seam, index)
        token = self._sampler.sample(self._model.context, index, len(self.tokens))
        self.tokens.append(token)
        if self._model.ends(token):
            self.answer_tokens += 1
            return self._finish("stop")
        return self._grow(self._model.piece(token))

    def _advance_seam(self, seam: Seam, index: int) -> bool:
        token, new = seam.choose(index)
        self.tokens.append(token)
        self._sampler.accept(token)
        if not seam.left:
            self._seam = None
        return self._grow(new) if new else True

    def _grow(self, new: bytes) -> bool:
        self.answer_tokens += 1
        self._emit(self._text.feed(new))
        if self._text.stopped:
            return self._finish("stop")
        if self.answer_tokens >= self._limit or len(self.tokens) >= self._model.context_length:
            return self._finish("length")
        return True

    def close(self) -> None:
        """Free the sampler; the stream is not used again."""
        self._sampler.close()

    def _finish(self, reason: FinishReason) -> bool:
        self._emit(self._text.finish())
        self.call.emit(Finish(reason, Usage(self.prompt_tokens, self.answer_tokens, self.cached_tokens)))
        return False

    def _emit(self, text: str) -> None:
        if text:
            self.call.emit(text)


def failure(error: ByenatosError) -> Failure:
    """Return the delta that ends an answer with ``error``."""
    return Failure(error.code, error.message, error.retry_after_s)
