"""``make chaos``: the storm in full length. ``SEED=…`` repeats the deeds of another run."""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "system" / "harness"))

from kernel_process import KernelProcess
from tests.chaos.storm.play import COUNTING, REAL
from tests.chaos.storm.storm import STRATEGIES, Storm

from byenatos_sdk.home import Home

ENOUGH = 50
"""Among so many swaps there is one of each kind."""


def main() -> int:
    """Storm, print what was done and what came of it, and return 1 if any of it cannot be."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="what the deeds are drawn from; default: a random number")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=1000, help="of drivers")
    parser.add_argument("--restarts", type=int, default=20, help="kills of the kernel")
    parser.add_argument("--real", action="store_true", help="with SmolLM2 and Gemma, and fewer clients")
    options = parser.parse_args()
    play = REAL if options.real else COUNTING
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 32)
    print(f"seed {seed}", flush=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="byenatos-chaos-") as folder:
        home = Home(Path(folder) / "home")
        play.prepare(home)
        kernels: list[KernelProcess] = []

        def start() -> KernelProcess:
            kernels.append(KernelProcess(home))
            return kernels[-1]

        async def storm() -> Storm:
            one = Storm(
                start,
                seed,
                swaps=options.swaps,
                kills=options.kills,
                restarts=options.restarts,
                play=play,
                report=_report(begin),
            )
            await one.run()
            return one

        wrong: list[str] = []
        try:
            done = asyncio.run(storm())
        finally:
            for kernel in kernels:
                try:
                    kernel.clean_up()
                except AssertionError as error:
                    wrong.append(str(error)[:4000])
        wrong += done.oracle.wrong
        deeds = [f"{name} done" for name in (*STRATEGIES, *(("upgrade",) if play.plugin else ()))]
        wrong += [f"{name}: never" for name in deeds if options.swaps >= ENOUGH and not done.deeds[name]]
    print(f"\n\ndone in {time.monotonic() - begin:.0f} s")
    for title, counts in (("deeds", done.deeds), ("streams", done.oracle.counts)):
        print(f"\n{title}")
        for name, count in sorted(counts.items()):
            print(f"  {name:<40}{count:>10,}")
    for sentence in wrong[:50]:
        print(f"WRONG: {sentence}")
    print(f"\nseed {seed}: {len(wrong) or 'nothing'} wrong")
    return 1 if wrong else 0


def _report(begin: float):
    said = 0.0

    def report(deeds: Counter[str]) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > 5.0:
            said = now
            shown = ", ".join(f"{deeds[name]} {name}s" for name in ("swap", "kill", "restart", "halt", "flood"))
            print(f"  … {now - begin:5.0f} s: {shown}", flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
