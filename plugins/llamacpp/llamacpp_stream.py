"""One answer in the making: its tokens so far, its sampler, its text, and the call that it is emitted to.

A stream is a function of its request, its prompt's tokens, its seed and the tokens answered so far: :class:`Saved`
holds these, and a stream made from it goes on as the old one would have: same penalties, same grammar, same half of a
character held back. What the tokens before have already emitted is not emitted again.
"""

import secrets
from typing import Any

from msgspec import Struct

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.messages import Failure, Finish, FinishReason, TokenLogprob, Usage
from llamacpp_calls import CallParser
from llamacpp_candidates import log_probabilities
from llamacpp_chat import ChatTemplate
from llamacpp_grammar import Grammar
from llamacpp_logprobs import LogprobQueue
from llamacpp_model import LlamaModel
from llamacpp_request import Plan, read_request
from llamacpp_sampling import Sampler
from llamacpp_seam import Seam
from llamacpp_settings import Settings
from llamacpp_text import TextAssembler

__all__ = ["Saved", "Stream", "failure"]


class Saved(Struct, frozen=True):
    """What a stream is made again from, beside its request.

    ``prompt``: the tokens of the whole prompt. ``answered``: the tokens chosen since. ``logprobs`` wait for their text.
    """

    prompt: list[int]
    answered: list[int]
    seed: int
    cached_tokens: int = 0
    logprobs: tuple[tuple[int, int, TokenLogprob], ...] = ()


class Stream:
    """One answer. ``tokens`` are the prompt's and the answer's so far.

    Raises:
        ByenatosError: the request cannot be served as written.
    """

    def __init__(
        self, call: Call, model: LlamaModel, template: ChatTemplate, settings: Settings, saved: Saved | None = None
    ) -> None:
        request = call.request
        plan = read_request(request, model, template)
        self.call = call
        self.seed = saved.seed if saved else request.sampling.seed
        if self.seed is None:
            self.seed = secrets.randbits(64)
        self.repeatable = request.sampling.seed is not None
        self.parked: Any = None
        self.cached_tokens = saved.cached_tokens if saved else 0
        self.answer_tokens = 0
        self._prompt = list(saved.prompt) if saved else plan.prompt
        self.prompt_tokens = len(self._prompt)
        self._limit = request.sampling.max_tokens or settings.max_tokens or model.context_length
        if plan.said:
            self._limit = max(self._limit - len(model.tokenize(plan.said)), 1)
        self._model = model
        self._text = TextAssembler(plan.stops, lstrip=plan.lstrip)
        self._logprobs = LogprobQueue(saved.logprobs if saved else ())
        self._alternatives = request.sampling.logprobs
        self._bytes = 0
        self._parser: CallParser | None = None
        self._spelled: dict[int, bytes] = {}
        if plan.family is not None:
            self._parser = CallParser(plan.family, plan.names, self.seed, plan.opened)
            self._spelled = model.control_tokens(plan.family.marks)
        # A grammar must know every byte of the answer, so the last word is not taken back under one.
        self._seam = Seam(model, self._prompt) if plan.partial and not plan.grammar else None
        self.tokens = list(self._seam.tokens if self._seam else self._prompt)
        self._start = len(self.tokens)
        self._silent = False
        self._sampler = Sampler(
            request.sampling, settings, model.vocabulary, self.tokens, self.seed, _grammar(plan, model)
        )
        if saved and saved.answered:
            self._replay(saved.answered)

    @property
    def saved(self) -> Saved:
        """What this stream can be made again from, as it is now."""
        answered = self.tokens[self._start :]
        return Saved(self._prompt, answered, self.seed or 0, self.cached_tokens, self._logprobs.waiting)

    def advance(self, index: int) -> bool:
        """Take the next token from the logits at ``index`` and emit its text; return whether the answer goes on."""
        if self.call.cancelled:
            return False
        try:
            token = self._choose(index)
        except InvalidRequest as error:
            self.call.emit(failure(error))
            return False
        self.tokens.append(token)
        return self._take(token)

    def close(self) -> None:
        """Free the sampler; the stream is not used again."""
        self.parked = None
        self._sampler.close()

    def _choose(self, index: int) -> int:
        if self._seam is not None:
            token = self._seam.choose(index)
            self._sampler.accept(token)
        else:
            token = self._sampler.sample(self._model.context, index, len(self.tokens))
        if self._alternatives is not None and not self._model.ends(token):
            self._measure(index, token)
        return token

    def _measure(self, index: int, token: int) -> None:
        """Remember the token's log probability, until its text is out."""
        chosen, best = log_probabilities(self._model.context, index, token, self._alternatives or 0)
        top = tuple((self._model.piece(one).decode(errors="replace"), value) for one, value in best)
        piece = self._piece(token)
        measured = TokenLogprob(piece.decode(errors="replace"), chosen, top)
        new = piece if self._seam is None else self._seam.new(token)
        self._logprobs.add(self._bytes, self._bytes + len(new), measured)

    def _replay(self, answered: list[int]) -> None:
        """Take tokens that were chosen before; what they emit has been emitted.

        Raises:
            InvalidRequest: the grammar does not allow them, or the answer had ended.
        """
        self._silent = True
        for token in answered:
            allowed = self._sampler.accept(token)
            self.tokens.append(token)
            if not allowed or not self._take(token):
                self.close()
                raise InvalidRequest("expected the beginning of an answer to this request, found tokens of another")
        self._silent = False

    def _take(self, token: int) -> bool:
        """Go on by ``token``, the last of ``tokens``; return whether the answer goes on."""
        if self._seam is not None:
            new = self._seam.take(token)
            if not self._seam.left:
                self._seam = None
            if not new:
                return True
        elif self._model.ends(token):
            self.answer_tokens += 1
            return self._finish("stop")
        else:
            new = self._piece(token)
        self.answer_tokens += 1
        self._bytes += len(new)
        self._emit(self._text.feed(new))
        if self._text.stopped:
            return self._finish("stop")
        if self.answer_tokens >= self._limit or len(self.tokens) >= self._model.context_length:
            return self._finish("length")
        return True

    def _piece(self, token: int) -> bytes:
        return self._spelled.get(token) or self._model.piece(token)

    def _emit(self, text: str) -> None:
        """Emit what ``text`` makes certain, then the log probabilities that belong to it."""
        if not text:
            return
        deltas = [text] if self._parser is None else self._parser.feed(text)
        self._emit_all(deltas)
        if self._alternatives is None or self._silent:
            return
        held = len(self._parser.held.encode()) if self._parser else 0
        logprobs = self._logprobs.settled(self._text.settled - held)
        if logprobs and any(isinstance(delta, str) for delta in deltas):
            self.call.emit(logprobs)

    def _emit_all(self, deltas: list[Any]) -> None:
        if not self._silent:
            for delta in deltas:
                self.call.emit(delta)

    def _finish(self, reason: FinishReason) -> bool:
        self._emit(self._text.finish())
        if self._parser is not None:
            self._emit_all(self._parser.finish())
            if self._parser.calls and reason == "stop":
                reason = "tool_calls"
        if self._silent:
            return False
        logprobs = self._logprobs.last(self._text.settled)
        if logprobs:
            self.call.emit(logprobs)
        self.call.emit(Finish(reason, Usage(self.prompt_tokens, self.answer_tokens, self.cached_tokens)))
        return False


def _grammar(plan: Plan, model: LlamaModel) -> Grammar | None:
    """Return the grammar that holds the answer, after what it has said at another instance."""
    if plan.grammar is None:
        return None
    where, text = plan.grammar
    grammar = Grammar(model.vocab, text, where)
    if plan.said and not grammar.accept_all(model.tokens_of(plan.said)):
        grammar.close()
        raise InvalidRequest(f"{where}: the beginning of the answer does not fit it: {plan.said[:80]!r}")
    return grammar


def failure(error: ByenatosError) -> Failure:
    """Return the delta that ends an answer with ``error``."""
    return Failure(error.code, error.message, error.retry_after_s)
