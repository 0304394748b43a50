"""How many threads generate a token fastest on this machine: found by trying.

A small model's operations are so short that more threads only wait for each other, the more so on a busy machine or on
two threads of one core; a large one's are bound by memory. Neither can be told from the model's size alone.
"""

import time
from collections.abc import Callable

__all__ = ["candidates", "fastest"]

WORTH = 0.87
"""More threads must take at most this share of the time that fewer take: they heat, and others may want them."""

SAMPLES = 4
PATIENCE_S = 0.4
"""How long one number of threads is tried for, at most; twice at least."""


def candidates(cores: int) -> list[int]:
    """Return what to try: the powers of two below ``cores``, and ``cores``."""
    return [*(1 << power for power in range(cores.bit_length()) if 1 << power < cores), cores]


def fastest(numbers: list[int], step: Callable[[int], None]) -> int:
    """Return the number with which ``step`` is quickest; the least of those that are nearly as quick."""
    best, best_s = numbers[0], float("inf")
    for number in numbers:
        step(number)  # its threads start, and the weights are read
        taken = _quickest(step, number)
        if taken < best_s * WORTH:
            best, best_s = number, taken
    return best


def _quickest(step: Callable[[int], None], number: int) -> float:
    begin = time.perf_counter()
    times: list[float] = []
    while len(times) < 2 or (len(times) < SAMPLES and time.perf_counter() - begin < PATIENCE_S):
        before = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - before)
    return min(times)
