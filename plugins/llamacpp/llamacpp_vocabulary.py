"""The vocabulary of a loaded model: text to tokens and back, over llama.cpp's C interface."""

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_library import llama

__all__ = ["Vocabulary"]

_PIECE = 256
"""Bytes of most tokens; there may be longer ones."""


class Vocabulary:
    """What a model's file says about tokens. ``weights`` is llama.cpp's model; ``vocabulary`` counts the tokens."""

    def __init__(self, weights: Any) -> None:
        self._model = weights
        self.vocab: Any = llama.llama_model_get_vocab(weights)
        self.vocabulary = llama.llama_vocab_n_tokens(self.vocab)
        self._buffer = ctypes.create_string_buffer(_PIECE)

    @property
    def chat_template(self) -> str:
        """The template that came with the model, empty without one."""
        return self._metadata("tokenizer.chat_template")

    @property
    def pooling(self) -> str:
        """How the file says that a text's vector is made: ``mean``, ``cls``, ``last``; empty if it does not."""
        kind = self._metadata(f"{self._metadata('general.architecture')}.pooling_type")
        return {"1": "mean", "2": "cls", "3": "last"}.get(kind, "")

    @property
    def bos(self) -> str:
        """The text of the token that begins a text, as templates write it."""
        return self._token_text(llama.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> str:
        """The text of the token that ends a text, as templates write it."""
        return self._token_text(llama.llama_vocab_eos(self.vocab))

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of ``text``, special ones included, with exactly one BOS if the model wants one."""
        tokens = self._split(text.encode(errors="replace"), special=True)  # a template can write half a surrogate pair
        bos = llama.llama_vocab_bos(self.vocab)
        if llama.llama_vocab_get_add_bos(self.vocab) and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def split(self, text: str, *, special: bool, begin: bool) -> list[int]:
        """Return the tokens of ``text`` as it stands; with ``begin`` behind a BOS, if the model wants one.

        The names of control tokens in it stand for these if they are ``special``.
        """
        tokens = self._split(text.encode(errors="replace"), special=special)
        wanted = begin and llama.llama_vocab_get_add_bos(self.vocab)
        return [llama.llama_vocab_bos(self.vocab), *tokens] if wanted else tokens

    def spell(self, tokens: Sequence[int]) -> list[bytes]:
        """Return what each of ``tokens`` stands for, control tokens by their names; raises ``InvalidRequest``."""
        for token in tokens:
            if not 0 <= token < self.vocabulary:
                raise InvalidRequest(f"expected tokens from 0 to {self.vocabulary - 1}, found {token}")
        buffer = ctypes.create_string_buffer(_PIECE)  # not the engine's, whose thread this need not be
        return [self._piece(token, special=True, buffer=buffer) for token in tokens]

    def tokens_of(self, text: str) -> list[int]:
        """Return tokens that stand for exactly the bytes of ``text``, none of them special.

        Raises:
            InvalidRequest: the vocabulary has none.
        """
        wanted = text.encode(errors="replace")
        # Some vocabularies put a space before a text: then the text follows on a line break, which is taken off again.
        for before in (b"", b"\n"):
            tokens = self._split(before + wanted, special=False)
            pieces = [self.piece(token) for token in tokens]
            for skipped in range(min(3, len(tokens) + 1)):
                if b"".join(pieces[skipped:]) == wanted:
                    return tokens[skipped:]
        raise InvalidRequest(f"the vocabulary has no tokens for {text[:80]!r}")

    def control_tokens(self, texts: Iterable[str]) -> dict[int, bytes]:
        """Return those of ``texts`` that are one token, by that token: control tokens have no bytes otherwise."""
        found = ((self._split(text.encode(), special=True), text) for text in texts)
        return {tokens[0]: text.encode() for tokens, text in found if len(tokens) == 1}

    def piece(self, token: int) -> bytes:
        """Return the bytes of ``token`` in an answer; nothing for control tokens."""
        return self._piece(token, special=False)

    def ends(self, token: int) -> bool:
        """Say whether ``token`` ends an answer."""
        return bool(llama.llama_vocab_is_eog(self.vocab, token))

    def _split(self, data: bytes, *, special: bool) -> list[int]:
        buffer = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(self.vocab, data, len(data), buffer, len(buffer), False, special)
        if count < 0:
            raise InvalidRequest(f"llama.cpp cannot split a text of {len(data)} bytes into tokens")
        return list(buffer[:count])

    def _metadata(self, key: str) -> str:
        length = llama.llama_model_meta_val_str(self._model, key.encode(), self._buffer, len(self._buffer))
        if length < 0:
            return ""
        buffer = ctypes.create_string_buffer(length + 1)
        llama.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def _token_text(self, token: int) -> str:
        return self._piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def _piece(self, token: int, *, special: bool, buffer: Any = None) -> bytes:
        if buffer is None:
            buffer = self._buffer
        length = llama.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = llama.llama_token_to_piece(self.vocab, token, buffer, -length, 0, special)
        return bytes(buffer.raw[:length])
