"""Our side of the engine's benchmark: the llamacpp driver with one model, called as the runtime would."""

import asyncio
import json
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.engine_chats import figures, prompt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "llamacpp"))

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, InferenceRequest, Sampling, user
from driver import LlamaCpp

END = 2  # SmolLM2's end of a turn
RUNNING = 4


class _Call:
    """A call that notes when its text came."""

    cancelled = congested = False
    id = 0

    def __init__(self, text: str, tokens: int) -> None:
        sampling = Sampling(temperature=0.0, max_tokens=tokens, repetition_penalty=1.0, logit_bias={END: -100.0})
        self.request = InferenceRequest((user(text),), sampling=sampling)
        self.times: list[float] = []
        self.ended = threading.Event()
        self.end: Finish | Failure | None = None

    def emit(self, delta: str | Delta) -> None:
        self.times.append(time.perf_counter())
        if isinstance(delta, Finish | Failure):
            self.end = delta
            self.ended.set()

    def flush(self) -> None:
        pass


def main() -> None:
    """Load the model, then carry out orders."""
    path = Path(sys.argv[1])
    driver = LlamaCpp({})
    asyncio.run(driver.start(Model("m", path, {"n_ctx": 8192, "parallel": 8})))
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_long(driver, order["long"]) if "long" in order else _chats(driver, order)), flush=True)
    asyncio.run(driver.stop())


def _chats(driver: LlamaCpp, order: dict[str, Any]) -> dict[str, float]:
    calls = [_Call(prompt(chat, order["round"]), order["tokens"]) for chat in range(order["chats"])]
    begin, cpu = time.perf_counter(), time.process_time()
    for call in calls:
        driver.serve(call)
    for call in calls:
        call.ended.wait()
        assert isinstance(call.end, Finish)
        assert call.end.usage.output_tokens == order["tokens"]
    return figures(order["tokens"], begin, [call.times[-1] for call in calls], time.process_time() - cpu)


def _long(driver: LlamaCpp, tokens: int) -> dict[str, float]:
    """Let chats run, alone and while a prompt of about ``tokens`` arrives; measure the gaps between their tokens."""
    running = [_Call(prompt(chat, 1000), 400) for chat in range(RUNNING)]
    for call in running:
        driver.serve(call)
    while any(len(call.times) < 30 for call in running):
        time.sleep(0.01)
    alone = max(gap for call in running for gap in _gaps(call)[5:])
    arriving = _Call("word " * (tokens - 40), 1)
    seen = [len(call.times) for call in running]
    begin = time.perf_counter()
    driver.serve(arriving)
    while not arriving.ended.is_set() and all(not call.ended.is_set() for call in running):
        time.sleep(0.01)
    spent = time.perf_counter() - begin
    meanwhile = [_gaps(call)[start:] for call, start in zip(running, seen, strict=True)]
    arriving.cancelled = True
    for call in running:
        call.cancelled = True
    longest = max(gap for gaps in meanwhile for gap in gaps)
    usual = sorted(gap for gaps in meanwhile for gap in gaps)
    piece = usual[len(usual) * 9 // 10]  # nearly every gap holds one piece of the prompt
    return {
        "prompt": tokens,
        "token_ms": alone * 1000,
        "piece_ms": piece * 1000,
        "gap_ms": longest * 1000,
        "gap": longest / (3 * alone + piece),
        "spent_s": spent,
    }


def _gaps(call: _Call) -> list[float]:
    times = list(call.times)
    return [later - earlier for earlier, later in pairwise(times)]


if __name__ == "__main__":
    main()
