"""Parallel chats with a real model: the llamacpp driver against two servers, on the same file.

The servers are llama.cpp's own and llama-cpp-python's (``pip install 'byenatos[bench]'``; left out, and said so, where
that is not installed). Each side is a process with the model loaded, run in turns with the others: the driver is called
as the runtime calls it, a server over HTTP on this machine, as its clients do. All generate greedily, to the same
number of tokens, without an end. A chat's prompt is read anew each time. The figure for the long prompt is the longest
gap between two tokens of chats that run while one arrives.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, Section, Table

__all__ = ["measure"]

CHATS = (1, 2, 4, 8)
TOKENS = 48
ROUNDS = 4
OURS, SERVER, PYTHON = "ours", "theirs", "python"
PYTHON_NEEDS = ("llama_cpp", "uvicorn", "fastapi", "sse_starlette", "starlette_context", "pydantic_settings")


def measure(*, quick: bool) -> Section:
    """Let 1 to 8 chats run at each side, in turns; then a long prompt arrives at ours."""
    folder = os.environ.get("BYENATOS_TEST_MODELS", "")
    model = Path(folder) / "smollm2.gguf"
    if not folder or not model.is_file():
        title = "engine: skipped, BYENATOS_TEST_MODELS names no folder with smollm2.gguf"
        return Section([Table(title, (), [])], [])
    missing = [name for name in PYTHON_NEEDS if importlib.util.find_spec(name) is None]
    names = [OURS, SERVER] if missing else [OURS, SERVER, PYTHON]
    sides: dict[str, _Side] = {}
    best: dict[tuple[str, int], dict[str, float]] = {}
    try:
        for name in names:
            sides[name] = _Side(name, model)
        for number in range(ROUNDS // (3 if quick else 1)):
            for chats in CHATS:
                for name in names if number % 2 else reversed(names):
                    found = sides[name].ask({"chats": chats, "tokens": TOKENS, "round": number})
                    kept = best.setdefault((name, chats), found)
                    best[name, chats] = {
                        "rate": max(kept["rate"], found["rate"]),
                        "spread": min(kept["spread"], found["spread"]),
                        "cpu": min(kept["cpu"], found["cpu"]),
                    }
        gap = sides[OURS].ask({"long": 1200 if quick else 6000})
    finally:
        for side in sides.values():
            side.close()
    return _section(best, gap, missing)


def _section(best: dict[tuple[str, int], dict[str, float]], gap: dict[str, float], missing: list[str]) -> Section:
    rows: list[tuple[str | float, ...]] = []
    figures = []
    others = {SERVER: "llama.cpp's server's", PYTHON: "llama_cpp.server's"}
    for chats in CHATS:
        row: tuple[str | float, ...] = (chats, *best[OURS, chats].values())
        for name, whose in others.items():
            other = best.get((name, chats))
            if other is None:
                row += ("-",) * 4
                continue
            ratio = best[OURS, chats]["rate"] / other["rate"]
            row += (*other.values(), ratio)
            if name == SERVER or chats > 1:
                figures.append(Figure(f"engine: tokens of {chats} chats, of {whose}", ratio, "x", 1.0, at_most=False))
        rows.append(row)
    figures.append(Figure("engine: slowest of 8 chats, of the fastest's time", best[OURS, 8]["spread"], "x", 2.0))
    figures.append(Figure("engine: longest gap while a long prompt is read", gap["gap"], "x", 1.0))
    title = (
        f"engine: SmolLM2, {TOKENS} tokens a chat, greedy: driver, llama.cpp's server, llama_cpp.server; tokens a\n"
        "second of all chats, slowest to fastest chat, CPU time a token (llama.cpp's server: that of its clients, too)"
    )
    if missing:
        title += f"\n(without llama_cpp.server, which needs byenatos[bench]: {', '.join(missing)} not installed)"
    each = ("spread", "CPU ms")
    columns = ("chats", "driver/s", *each, "server/s", *each, "ratio", "python/s", *each, "ratio")
    gaps = Table(
        "engine: a long prompt arrives while 4 chats run (ms); the bound is three tokens and one piece of prompt",
        ("prompt tokens", "a token", "a piece", "longest gap", "of the bound"),
        [(gap["prompt"], gap["token_ms"], gap["piece_ms"], gap["gap_ms"], gap["gap"])],
    )
    return Section([Table(title, columns, rows), gaps], figures)


class _Side:
    """A process that loads the model, then answers orders, a line of JSON each."""

    def __init__(self, name: str, model: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.engine_{name}", str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def ask(self, order: dict[str, Any]) -> dict[str, float]:
        """Carry out ``order``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("expected the engine's process to answer, it ended")
        found: dict[str, float] = json.loads(line)
        return found
