"""What the next two batches of the engine hold: a token of each answer, and a piece of a prompt."""

from collections.abc import Sequence

from llamacpp_model import Entry
from llamacpp_room import HeldSequence
from llamacpp_settings import MAX_ROWS, Settings

__all__ = ["plan_answers", "plan_prompt"]

ANSWERED_SHARE = 2
"""What part of a chunk of prompt is read in a step that answers wait for, beyond the exact tokens."""


def plan_answers(running: Sequence[HeldSequence]) -> list[Entry]:
    """Return one token for each answer that is being written."""
    return [
        Entry(missing[0], len(sequence.tokens), sequence.id, sampled=True)
        for sequence, missing in _active(running)
        if len(missing) == 1
    ][:MAX_ROWS]


def plan_prompt(running: Sequence[HeldSequence], settings: Settings, step: int, *, answered: bool) -> list[Entry]:
    """Return a piece of the prompt that has waited longest; ``answered``: running answers wait for this step."""
    prompts = [(sequence, missing) for sequence, missing in _active(running) if len(missing) > 1]
    if not prompts:
        return []
    sequence, missing = min(prompts, key=lambda prompt: prompt[0].read_at)
    sequence.read_at = step + 1
    start = len(sequence.tokens)
    if start < settings.exact_tokens:
        size = MAX_ROWS
    else:
        size = max(settings.prefill_chunk // (ANSWERED_SHARE if answered else 1), 1)
    piece = missing[: size - start % size]
    last = len(missing) - 1
    return [Entry(token, start + at, sequence.id, at == last) for at, token in enumerate(piece)]


def _active(running: Sequence[HeldSequence]) -> list[tuple[HeldSequence, list[int]]]:
    """The sequences that may go on, with the tokens that they do not hold yet."""
    return [
        (sequence, sequence.stream.tokens[len(sequence.tokens) :])
        for sequence in running
        if sequence.stream is not None and not sequence.stream.frozen and not sequence.stream.call.congested
    ]
