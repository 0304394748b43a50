"""One answer in the making: its tokens so far, its sampler, its text, and the call that it is emitted to."""

from collections.abc import Sequence

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import ByenatosError, ContextLengthExceeded, InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import Failure, Finish, FinishReason, InferenceRequest, Usage
from llamacpp_chat import ChatTemplate, Prompt
from llamacpp_model import LlamaModel
from llamacpp_progress import Opening, Progress
from llamacpp_sampling import Sampler, check_sampling, draw_seed_of
from llamacpp_seam import Seam
from llamacpp_settings import Settings
from llamacpp_text import TextAssembler

__all__ = ["Diverged", "Stream", "check_request", "failure"]

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


class Diverged(Unavailable):
    """A resumed answer says something else than it had said already: the caller goes on by text."""


class Stream:
    """One answer. ``tokens`` are the prompt's and the answer's so far; a ``frozen`` one is not to be stepped.

    With ``progress`` it is one that another instance began: ``known`` are its first tokens, those in the context, and
    ``said`` is what it has said already, which is not emitted again.

    Raises:
        ByenatosError: the request cannot be served as written.
        Diverged: the tokens say something else than ``said``.
    """

    def __init__(
        self,
        call: Call,
        model: LlamaModel,
        template: ChatTemplate,
        settings: Settings,
        *,
        progress: Progress | None = None,
        known: Sequence[int] = (),
        said: str = "",
    ) -> None:
        request = call.request
        check_request(request)
        check_sampling(request.sampling, model.vocabulary)
        self.call = call
        self.answer_tokens = 0
        self.frozen = False
        self.repeatable = request.sampling.seed is not None
        self._model = model
        self._owed = said
        self._diverged = False
        self._seam: Seam | None = None
        if progress is None:
            self.cached_tokens = 0
            self._seed = draw_seed_of(request.sampling)
            self._open(template.prompt(request.messages))
        else:
            self.cached_tokens = progress.cached_tokens
            self._seed = progress.seed
            self.opening = progress.opening
            self.tokens = [*known, *progress.tail][: self.opening.begin]
            if self.opening.seam is not None:
                self._seam = Seam(model, self.tokens, self.opening.seam)
        self.prompt_tokens = self.opening.prompt_tokens
        self._limit = request.sampling.max_tokens or settings.max_tokens or model.context_length
        if request.continued:
            said_before = model.tokenize(request.partial[-request.continued :])
            self._limit = max(self._limit - len(said_before), 1)
        self._text = TextAssembler(request.sampling.stop + self.opening.stops, lstrip=self.opening.lstrip)
        self._sampler = Sampler(request.sampling, settings, model.vocabulary, self.tokens, self._seed)
        if progress is not None:
            self._replay([*known, *progress.tail][self.opening.begin :])

    def _open(self, prompt: Prompt) -> None:
        self.tokens = self._model.tokenize(prompt.text)
        count = len(self.tokens)
        if count >= self._model.context_length:
            raise ContextLengthExceeded(
                f"expected fewer than {self._model.context_length} tokens, the context of this instance, found "
                f"{count}; shorten the conversation or raise n_ctx"
            )
        if prompt.partial:
            self._seam = Seam.behind(self._model, self.tokens)
            self.tokens = list(self._seam.tokens)
        left = self._seam.left if self._seam is not None else None
        self.opening = Opening(count, len(self.tokens), left, prompt.stops, prompt.lstrip)

    def _replay(self, answered: list[int]) -> None:
        for token in answered:
            self._sampler.accept(token)
            self._take(token)
        if self._diverged:
            self.close()
            raise Diverged("what the answer's tokens say is not what it has said already")

    def progress(self, held: int) -> Progress:
        """What an instance needs that has the first ``held`` of the tokens in its context."""
        return Progress(self.opening, self._seed, self.cached_tokens, self.tokens[held:])

    def advance(self, index: int) -> bool:
        """Take the next token from the logits at ``index`` and emit its text; return whether the answer goes on."""
        if self.call.cancelled:
            return False
        if self._seam is not None:
            token = self._seam.choose(index)
            self._sampler.accept(token)
        else:
            token = self._sampler.sample(self._model.context, index, len(self.tokens))
        alive = self._take(token)
        if self._diverged:
            self.call.emit(failure(Diverged("the answer became another one when it was made again")))
            return False
        return alive

    def _take(self, token: int) -> bool:
        self.tokens.append(token)
        if self._seam is not None:
            new = self._seam.take(token)
            if not self._seam.left:
                self._seam = None
            return self._grow(new) if new else True
        if self._model.ends(token):
            self.answer_tokens += 1
            return self._finish("stop")
        return self._grow(self._model.piece(token))

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
        self._diverged = self._diverged or bool(self._owed)
        if not self._diverged:
            self.call.emit(Finish(reason, Usage(self.prompt_tokens, self.answer_tokens, self.cached_tokens)))
        return False

    def _emit(self, text: str) -> None:
        if self._owed:
            shared = min(len(text), len(self._owed))
            if text[:shared] != self._owed[:shared]:
                self._diverged = True
                return
            self._owed = self._owed[shared:]
            text = text[shared:]
        if text and not self._diverged:
            self.call.emit(text)


def failure(error: ByenatosError) -> Failure:
    """Return the delta that ends an answer with ``error``."""
    return Failure(error.code, error.message, error.retry_after_s)
