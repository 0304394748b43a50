"""Measure the data path: print tables, hold the figures against their targets, and fail if one is missed.

Every measurement runs the real thing: a kernel process in a home of its own, the echo driver in its sandbox, ZeroMQ.
Its baselines run beside it, in turns, because only ratios within one run mean much on a shared machine. What misses its
target is measured twice more and the best of the three is taken; all of them are printed. What takes many minutes is
measured once.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from tests.bench import (
    broker,
    cancel,
    death,
    engine,
    front,
    memory,
    plugins,
    requests,
    sandbox,
    slow_client,
    standby,
    streams,
    swaps,
    vendors,
    warm,
)
from tests.bench.figures import Figure, Section, Table, best_of
from tests.bench.machine import describe_machine

RETRIES = 2
RETRIED_S = 300.0
"""How long a measurement may take that is made again."""

SECTIONS: Final[dict[str, Callable[..., Section]]] = {
    "requests": requests.measure,
    "streams": streams.measure,
    "cancel": cancel.measure,
    "death": death.measure,
    "memory": memory.measure,
    "plugins": plugins.measure,
    "slow-client": slow_client.measure,
    "broker": broker.measure,
    "vendors": vendors.measure,
    "front": front.measure,
    "sandbox": sandbox.measure,
    "standby": standby.measure,
    "warm": warm.measure,
    "swaps": swaps.measure,
    "engine": engine.measure,
}


class Outcome(msgspec.Struct, frozen=True):
    """What ``--json`` writes."""

    machine: str
    tables: list[Table]
    figures: list[Figure]


def main() -> int:
    """Run the benchmark and return the exit status: 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="measure for a shorter time")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, metavar="NAME", help=f"one of {', '.join(SECTIONS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables and figures there as well")
    options = parser.parse_args()
    machine = describe_machine()
    print(machine, end="\n\n", flush=True)
    tables: list[Table] = []
    figures: list[Figure] = []
    for name, measure in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        section = _measured(name, measure, quick=options.quick)
        tables += section.tables
        figures += section.figures
    print("\n".join(figure.line() for figure in figures))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(Outcome(machine, tables, figures))))
    return 0 if all(figure.met for figure in figures) else 1


def _measured(name: str, measure: Callable[..., Section], *, quick: bool) -> Section:
    print(f"measuring {name}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    section = measure(quick=quick)
    taken_s = time.monotonic() - begun
    _print(section)
    for attempt in range(RETRIES):
        missed = [figure.name for figure in section.figures if not figure.met]
        if not missed or taken_s > RETRIED_S:
            break
        print(f"{name}: missed {'; '.join(missed)}: once more ({attempt + 1} of {RETRIES})\n", flush=True)
        again = measure(quick=quick)
        _print(again)
        section = Section(again.tables, best_of(section.figures, again.figures))
    return section


def _print(section: Section) -> None:
    for table in section.tables:
        print("\n".join(table.lines()), end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
