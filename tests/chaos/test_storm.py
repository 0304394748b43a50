"""A short storm in the suite; `make chaos` is the long one."""

from tests.chaos.storm.play import COUNTING
from tests.chaos.storm.storm import STRATEGIES, Storm

SEED = 20261127


async def test_whatever_happens_every_answer_is_whole_or_fails_honestly_and_every_turn_is_kept_once(start_kernel, home):
    COUNTING.prepare(home)

    def start():
        kernel = start_kernel(configured=False)
        kernels.append(kernel)
        return kernel

    kernels = []
    storm = Storm(start, SEED, swaps=16, kills=8, restarts=1)
    await storm.run()
    assert storm.oracle.wrong == [], f"seed {SEED}"
    assert storm.oracle.counts["answered"] > 200, storm.oracle.counts
    assert storm.oracle.counts["moves"] > 0, storm.oracle.counts
    assert all(storm.deeds[f"{done} done"] for done in (*STRATEGIES, "upgrade")), storm.deeds
    kernels[-1].stop()
    assert len(list(home.scratch.iterdir())) == 0
