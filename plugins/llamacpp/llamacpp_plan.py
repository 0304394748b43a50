"""What the next two batches of the engine hold: a token of each answer, and pieces of prompts."""

from collections.abc import Sequence

from llamacpp_model import Entry
from llamacpp_room import WORTH_SHARING, HeldSequence
from llamacpp_settings import MAX_ROWS, Settings

__all__ = ["plan_answers", "plan_prompts"]

ANSWERED_SHARE = 2
"""What part of a chunk of prompt is read in a step that answers wait for, beyond the exact tokens."""


def plan_answers(running: Sequence[HeldSequence]) -> list[Entry]:
    """Return one token for each answer that is being written."""
    return [
        Entry(missing[0], len(sequence.tokens), sequence.id, sampled=True)
        for sequence, missing in _active(running)
        if len(missing) == 1 and not _ahead(sequence)
    ][:MAX_ROWS]


def plan_prompts(running: Sequence[HeldSequence], settings: Settings, step: int, *, answered: bool) -> list[Entry]:
    """Return a piece of the prompt that has waited longest; ``answered``: running answers wait for this step.

    Among the exact tokens, pieces of other prompts come along as long as rows are left: a step costs something whatever
    it holds. Not so prompts that must come out the same whoever is in company, with any model (``Stream.repeatable``),
    and those that begin as one that is being read does: in the next step they share what is read now.
    """
    prompts = [(one, missing) for one, missing in _active(running) if len(missing) > 1 or _ahead(one)]
    entries: list[Entry] = []
    chosen: list[HeldSequence] = []
    for sequence, missing in sorted(prompts, key=lambda prompt: prompt[0].read_at):
        start = len(sequence.tokens)
        exact = start < settings.exact_tokens
        size = MAX_ROWS if exact else max(settings.prefill_chunk // (ANSWERED_SHARE if answered else 1), 1)
        piece = missing[: size - start % size]
        if chosen and (not exact or len(entries) + len(piece) > MAX_ROWS or not _company(sequence, chosen)):
            continue
        chosen.append(sequence)
        sequence.read_at = step + 1
        last = len(missing) - 1
        entries += [Entry(token, start + at, sequence.id, at == last) for at, token in enumerate(piece)]
        if len(piece) > last and len(chosen) == 1 and _ahead(sequence):
            guess = _ahead(sequence)[: max(min(settings.parallel, MAX_ROWS - len(piece)), 0)]
            entries += [Entry(token, start + len(piece) + at, sequence.id, True) for at, token in enumerate(guess)]
            break
        if not exact or _repeatable(sequence):
            break
    return entries


def _company(sequence: HeldSequence, chosen: Sequence[HeldSequence]) -> bool:
    """Whether a prompt is read in one step with those that are ``chosen``."""
    count = len(sequence.tokens) + WORTH_SHARING
    alike = (one for one in chosen if _wanted(one)[:count] == _wanted(sequence)[:count])
    return not _repeatable(sequence) and not any(len(_wanted(one)) >= count for one in alike)


def _ahead(sequence: HeldSequence) -> Sequence[int]:
    return sequence.stream.ahead if sequence.stream is not None else ()


def _repeatable(sequence: HeldSequence) -> bool:
    return sequence.stream is not None and sequence.stream.repeatable


def _wanted(sequence: HeldSequence) -> list[int]:
    return sequence.stream.tokens if sequence.stream is not None else []


def _active(running: Sequence[HeldSequence]) -> list[tuple[HeldSequence, list[int]]]:
    """The sequences that may go on, with the tokens that they do not hold yet."""
    return [
        (sequence, sequence.stream.tokens[len(sequence.tokens) :])
        for sequence in running
        if sequence.stream is not None and not sequence.stream.frozen and not sequence.stream.call.congested
    ]
