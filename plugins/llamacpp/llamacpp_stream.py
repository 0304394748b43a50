"""One answer in the making: its tokens so far, its sampler, its text, and the call that it is emitted to.

An answer follows from its request, how it began, its seed and its tokens: made again from these (``Progress``) it goes
on as it would have: same penalties, same grammar, same half of a character held back.
"""

from collections.abc import Sequence

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import ByenatosError, ContextLengthExceeded, InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    FinishReason,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from llamacpp_calls import CallParser
from llamacpp_candidates import log_probabilities
from llamacpp_chat import ChatTemplate, Prompt
from llamacpp_grammar import Grammar
from llamacpp_logprobs import LogprobQueue
from llamacpp_model import LlamaModel
from llamacpp_nobody import NoCall
from llamacpp_progress import Opening, Progress
from llamacpp_request import Plan, read_prompt, read_request
from llamacpp_sampling import Sampler, draw_seed_of
from llamacpp_seam import Seam
from llamacpp_settings import Settings
from llamacpp_text import TextAssembler

__all__ = ["Diverged", "Stream", "failure"]


class Diverged(Unavailable):
    """A resumed answer says something else than it had said already: the caller goes on by text."""


class Stream:
    """One answer. ``tokens`` are the prompt's and the answer's so far; a ``frozen`` one is not to be stepped.

    With ``progress`` it is one that began before: ``known`` are its first tokens, those in the context, and ``said`` is
    what it has said already, which is not emitted again. ``parked`` is its context while it is suspended.

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
        plan = read_request(request, model, template.family)
        self.call = call
        self.answer_tokens = 0
        self.frozen = False
        self.parked: tuple[list[int], bytearray] | None = None
        self.repeatable = request.sampling.seed is not None and not request.continued
        self._model = model
        self._owed = said
        self._diverged = False
        self._replaying = False
        self._seam: Seam | None = None
        if progress is None:
            self.cached_tokens = 0
            self._seed = draw_seed_of(request.sampling)
            held = plan.form is not None or isinstance(call, NoCall)  # nobody hears how a word goes on
            self._open(read_prompt(request, template, plan), held=held)
        else:
            self.cached_tokens = progress.cached_tokens
            self._seed = progress.seed
            self.opening = progress.opening
            self.tokens = [*known, *progress.tail][: self.opening.begin]
            if self.opening.seam is not None:
                self._seam = Seam(model, self.tokens, self.opening.seam)
        self.prompt_tokens = self.opening.prompt_tokens
        self._limit = request.sampling.max_tokens or settings.max_tokens or model.context_length
        before = request.partial[-request.continued :] if request.continued else ""
        if before:
            self._limit = max(self._limit - len(model.tokenize(before)), 1)
        self._text = TextAssembler(request.sampling.stop + self.opening.stops, lstrip=self.opening.lstrip)
        self._logprobs = LogprobQueue(progress.logprobs if progress else ())
        self._alternatives = request.sampling.logprobs
        self._bytes = 0
        self._parser, self._spelled = _parser(plan, model, self._seed)
        grammar = _grammar(plan, model, before)
        self._sampler = Sampler(
            request.sampling, settings, model.vocabulary, self.tokens, self._seed, grammar, described=plan.described
        )
        if progress is not None:
            self._replay([*known, *progress.tail][self.opening.begin :])

    def _open(self, prompt: Prompt, *, held: bool) -> None:
        self.tokens = self._model.tokenize(prompt.text)
        count = len(self.tokens)
        if not count:  # there is nothing to compute the first token from
            raise InvalidRequest(
                "messages: expected a text to go on from, found an empty one, which this model cannot begin"
            )
        if count >= self._model.context_length:
            raise ContextLengthExceeded(
                f"expected fewer than {self._model.context_length} tokens, the context of this instance, found "
                f"{count}; shorten the conversation or raise n_ctx"
            )
        if prompt.partial and not held:  # a grammar must see every byte: under one, no word is taken back
            self._seam = Seam.behind(self._model, self.tokens)
            self.tokens = list(self._seam.tokens)
        left = self._seam.left if self._seam is not None else None
        self.opening = Opening(count, len(self.tokens), left, prompt.stops, prompt.lstrip)

    def _replay(self, answered: list[int]) -> None:
        """Take the tokens that were chosen before: one by one where each counts, and what follows at once.

        An answer that moves waits for this, so it must not take longer the longer the answer is. What text means does
        not depend on where it was cut, and penalties look back at the last tokens only.
        """
        self._replaying = True
        at = 0
        fits = True
        while fits and at < len(answered) and self._seam is not None:
            fits = self._sampler.accept(answered[at]) and self._take(answered[at])
            at += 1
        fits = fits and self._take_all(answered[at:])
        self._replaying = False
        if self._diverged or not fits:
            self.close()
            raise Diverged("what the answer's tokens say is not what it has said already, or not what holds it")

    def _take_all(self, tokens: list[int]) -> bool:
        """Go on by ``tokens``, behind a seam; return whether the answer goes on."""
        if not tokens:
            return True
        if not self._sampler.accept_all(tokens) or any(map(self._model.ends, tokens)):
            return False
        self.tokens += tokens
        self.answer_tokens += len(tokens) - 1
        return self._grow(b"".join(map(self._piece, tokens)))

    @property
    def ahead(self) -> Sequence[int]:
        """What the first tokens of the answer will probably be, while none is chosen; nothing where that is unknown."""
        if self._seam is None or len(self.tokens) > self.opening.begin or self.repeatable or not self._model.shares:
            return ()
        return self._seam.guess

    def progress(self, held: int) -> Progress:
        """What an instance needs that has the first ``held`` of the tokens in its context."""
        return Progress(self.opening, self._seed, self.cached_tokens, self.tokens[held:], self._logprobs.waiting)

    def advance(self, index: int) -> bool:
        """Take the next token from the logits at ``index`` and emit its text; return whether the answer goes on."""
        if self.call.cancelled:
            return False
        try:
            if self._seam is not None:
                token = self._seam.choose(index)
                self._sampler.accept(token)
            else:
                token = self._sampler.sample(self._model.context, index, len(self.tokens))
        except InvalidRequest as error:
            self.call.emit(failure(error))
            return False
        if self._alternatives is not None and not self._model.ends(token):
            self._measure(index, token, self._alternatives)
        alive = self._take(token)
        if self._diverged:
            self.call.emit(failure(Diverged("the answer became another one when it was made again")))
            return False
        return alive

    def close(self) -> None:
        """Free the sampler; the stream is not used again."""
        self.parked = None
        self._sampler.close()

    def _take(self, token: int) -> bool:
        """Go on by ``token``; return whether the answer goes on."""
        self.tokens.append(token)
        if self._seam is not None:
            new = self._seam.take(token)
            if not self._seam.left:
                self._seam = None
            return self._grow(new) if new else True
        if self._model.ends(token):
            self.answer_tokens += 1
            return self._finish("stop")
        return self._grow(self._piece(token))

    def _grow(self, new: bytes) -> bool:
        self.answer_tokens += 1
        self._bytes += len(new)
        self._speak(self._text.feed(new))
        if self._text.stopped or (self._parser is not None and self._parser.done):
            return self._finish("stop")
        if self.answer_tokens >= self._limit or len(self.tokens) >= self._model.context_length:
            return self._finish("length")
        return True

    def _piece(self, token: int) -> bytes:
        return self._spelled.get(token) or self._model.piece(token)

    def _measure(self, index: int, token: int, alternatives: int) -> None:
        """Remember the log probability of the token that is about to be taken."""
        chosen, best = log_probabilities(self._model.context, index, token, alternatives)
        top = tuple((self._model.piece(one).decode(errors="replace"), value) for one, value in best)
        piece = self._piece(token)
        new = len(piece) - len(self._seam.left) if self._seam is not None else len(piece)
        measured = TokenLogprob(piece.decode(errors="replace"), chosen, top)
        self._logprobs.add(self._bytes, self._bytes + max(new, 0), measured)

    def _speak(self, text: str) -> None:
        """Emit what ``text`` makes certain, then the log probabilities that belong to it."""
        if not text:
            return
        deltas = [text] if self._parser is None else self._parser.feed(text)
        spoken = self._emit(deltas)
        held = len(self._parser.held.encode()) if self._parser is not None else 0
        logprobs = None if self._replaying else self._logprobs.settled(self._text.settled - held)
        if logprobs is not None and spoken:
            self.call.emit(logprobs)

    def _emit(self, deltas: Sequence[str | ToolCallDelta]) -> bool:
        """Emit what has not been said before; return whether there was text."""
        spoken = False
        for delta in deltas:
            if isinstance(delta, str):
                spoken = self._emit_text(delta) or spoken
            elif not self._replaying:
                self.call.emit(delta)
        return spoken

    def _emit_text(self, text: str) -> bool:
        if self._owed:
            shared = min(len(text), len(self._owed))
            if text[:shared] != self._owed[:shared]:
                self._diverged = True
                return False
            self._owed = self._owed[shared:]
            text = text[shared:]
        if text and not self._diverged:
            self.call.emit(text)
            return True
        return False

    def _finish(self, reason: FinishReason) -> bool:
        self._speak(self._text.finish())
        if self._parser is not None:
            self._emit(self._parser.finish())
            if self._parser.calls and reason == "stop":
                reason = "tool_calls"
        self._diverged = self._diverged or bool(self._owed)
        if self._diverged or self._replaying:
            return False
        logprobs = self._logprobs.last(self._text.settled)
        if logprobs is not None:
            self.call.emit(logprobs)
        stop = self._text.stopped_by if reason == "stop" else None
        usage = Usage(self.prompt_tokens, self.answer_tokens, self.cached_tokens)
        asked = stop is not None and stop in self.call.request.sampling.stop
        self.call.emit(
            Finish(reason, usage, detail="stop_sequence", stop_sequence=stop) if asked else Finish(reason, usage)
        )
        return False


def _parser(plan: Plan, model: LlamaModel, seed: int) -> tuple[CallParser | None, dict[int, bytes]]:
    """Return what finds the calls, and the control tokens that calls are written with, by their bytes."""
    if plan.family is None:
        return None, {}
    names = (tool.name for tool in plan.tools)
    parser = CallParser(plan.family, names, seed, plan.opened, several=plan.several)
    return parser, model.control_tokens(plan.family.marks)


def _grammar(plan: Plan, model: LlamaModel, before: str) -> Grammar | None:
    """Return the grammar that holds the answer, after what it has said ``before`` at another instance."""
    if plan.form is None:
        return None
    grammar = Grammar(model.vocab, plan.form.grammar, plan.form.where)
    if before and not grammar.accept_all(model.tokens_of(before)):
        grammar.close()
        raise InvalidRequest(f"{plan.form.where}: the beginning of the answer does not fit it: {before[:80]!r}")
    return grammar


def failure(error: ByenatosError) -> Failure:
    """Return the delta that ends an answer with ``error``."""
    return Failure(error.code, error.message, error.retry_after_s)
