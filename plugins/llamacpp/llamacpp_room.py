"""Room in the context: the sequences, what each holds, and what goes when there is too little.

All sequences share the context, and any of them may use all of it while the others do not need it. The tokens that a
sequence lists are exactly those whose state the context holds, so that room is counted, never guessed. What several
hold in common (``llamacpp_prefix``) is counted for each of them: they may part at any time.
"""

from llamacpp_model import LlamaModel
from llamacpp_prefix import Prefix, count_shared
from llamacpp_stream import Stream

__all__ = ["WORTH_SHARING", "HeldSequence", "Room"]

WORTH_SHARING = 4
"""How many tokens it must save to take them from another sequence, if that leaves a hole, which costs a copy of all."""


class HeldSequence:
    """A place in the context: the tokens that it holds, and the answer that uses it (``None``: kept warm).

    ``session`` is whose turn it served last; ``reserved`` is for an answer that is on its way from another instance.
    The first ``common`` tokens lie in cells of ``prefix``.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self.tokens: list[int] = []
        self.prefix: Prefix | None = None
        self.common = 0
        self.stream: Stream | None = None
        self.session: str | None = None
        self.reserved: int | None = None
        self.used_at = 0
        self.read_at = 0

    @property
    def free(self) -> bool:
        """Whether an answer may take it."""
        return self.stream is None and self.reserved is None

    def cut(self, count: int) -> None:
        """Note that only the first ``count`` tokens are held any more."""
        del self.tokens[count:]
        self.common = min(self.common, count)
        self.prefix = self.prefix if self.common else None


class Room:
    """The ``count`` sequences of ``model``'s context.

    ``scattered`` counts the holes that were made since the context was in order: while it is 0, each sequence lies in
    the order of its positions, and its sums are made in that order. llama.cpp fills a hole with whatever comes next, so
    holes are closed before that (:meth:`order`): a copy out and back in, which costs about what a token does.
    """

    def __init__(self, model: LlamaModel, count: int) -> None:
        self.sequences = [HeldSequence(number) for number in range(count)]
        self.scattered = 0
        self._model = model

    @property
    def used(self) -> int:
        """How many tokens the context holds."""
        return sum(len(sequence.tokens) for sequence in self.sequences)

    @property
    def free(self) -> list[HeldSequence]:
        """The sequences that an answer may take."""
        return [sequence for sequence in self.sequences if sequence.free]

    def least_used(self) -> HeldSequence:
        """Return the free sequence that holds nothing, or was used least lately; there must be a free one."""
        return min(self.free, key=lambda one: (bool(one.tokens), one.used_at))

    def make(self, needed: int) -> bool:
        """Forget what finished conversations left behind, the oldest first, until ``needed`` tokens more fit.

        Return whether they do.
        """
        warm = (sequence for sequence in self.sequences if sequence.free and sequence.tokens)
        for sequence in sorted(warm, key=lambda sequence: sequence.used_at):
            if self.used + needed <= self._model.context_length:
                break
            self.keep(sequence, 0)
        return bool(self.used + needed <= self._model.context_length)

    def keep(self, sequence: HeldSequence, count: int) -> int:
        """Have a sequence hold its first ``count`` tokens only, or fewer; return how many."""
        kept = self._model.keep(sequence.id, count)
        if kept < len(sequence.tokens):
            sequence.cut(kept)
            self.scattered = self.scattered + 1 if self.used > len(sequence.tokens) else 0
        return kept

    def order(self) -> None:
        """Close the holes, where the model's context can be copied and lies in this machine's memory."""
        if not self.scattered or not self._model.movable:
            return
        leaders: dict[Prefix, HeldSequence] = {}  # who holds most of a prefix: the others take it from there
        saved: list[tuple[HeldSequence, HeldSequence, bytearray]] = []
        for one in sorted((one for one in self.sequences if one.tokens), key=lambda one: -one.common):
            leader = one if one.prefix is None else leaders.setdefault(one.prefix, one)
            data = self._model.save(one.id, 0 if leader is one else one.common)
            if data is None:
                return
            saved.append((one, leader, data))
        self._model.clear()
        for one, leader, data in saved:
            shared = min(one.common, len(leader.tokens)) if leader is not one else 0
            if shared:
                self._model.share(leader.id, one.id, 0, shared)
            if shared < one.common and leader is not one:
                one.cut(shared)
            elif not self._model.restore(one.id, data, shared):
                one.cut(shared)  # the rest is read again
        self.scattered = 0

    def share(self, sequence: HeldSequence, wanted: list[int]) -> int:
        """Have a sequence hold what another one holds of ``wanted`` beyond it; return how many tokens that is.

        All but the last of ``wanted``, at most: that one is to be computed.
        """
        held = count = len(sequence.tokens)
        source: HeldSequence | None = None
        for other in self.sequences if self._model.shares else ():
            if count < min(len(other.tokens), len(wanted) - 1) and other.tokens[count] == wanted[count]:
                found = min(count_shared(other.tokens, wanted), len(wanted) - 1)
                if found > count and other is not sequence:
                    count, source = found, other
        if source is None or self.used + count - held > self._model.context_length:
            return 0
        if held and not (source.prefix is sequence.prefix is not None and held == sequence.common <= source.common):
            if count - held < WORTH_SHARING and not self.scattered:
                return 0
            self.keep(sequence, 0)  # what it holds lies behind what it is about to share
        start = len(sequence.tokens)
        self._model.share(source.id, sequence.id, start, count)
        if source.prefix is None or source.common < count:
            if source.prefix is not None and source.common == source.prefix.length:
                source.prefix.length = count
            else:
                source.prefix = Prefix(count)
            source.common = count
        sequence.prefix, sequence.common = source.prefix, count
        sequence.tokens += wanted[start:count]
        return count - held

    def take(self, tokens: list[int], *, from_start: bool) -> tuple[HeldSequence, int]:
        """Return the free sequence that begins most like ``tokens``, and how many of them it holds now.

        One is used on only if that uses most of what it holds, and never with ``from_start``. The last token is always
        to be computed: what follows from it is not kept.
        """

        def worth(sequence: HeldSequence) -> tuple[int, int]:
            shared = count_shared(sequence.tokens, tokens)
            return (shared if 2 * shared >= len(sequence.tokens) else 0, -sequence.used_at)

        sequence = max(self.free, key=worth)
        shared = 0 if from_start else min(count_shared(sequence.tokens, tokens), len(tokens) - 1)
        return sequence, self.keep(sequence, shared)

    def park(self, sequence: HeldSequence) -> tuple[list[int], bytearray] | None:
        """Empty a sequence and return what it held, for :meth:`unpark`; ``None`` if there is no memory for that."""
        tokens = list(sequence.tokens)
        data = self._model.save(sequence.id) if tokens else None
        self.keep(sequence, 0)
        return None if data is None else (tokens, data)

    def unpark(self, parked: tuple[list[int], bytearray]) -> HeldSequence | None:
        """Put back what :meth:`park` returned, into a free sequence; ``None`` if it does not fit."""
        tokens, data = parked
        sequence = self.least_used()
        self.keep(sequence, 0)
        if not self.make(len(tokens)) or not self._model.restore(sequence.id, data):
            self.keep(sequence, 0)
            return None
        sequence.tokens = list(tokens)
        return sequence
