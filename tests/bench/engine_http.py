"""Chats over HTTP, as clients of the two servers have them that the engine's benchmark compares with."""

import http.client
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.engine_chats import figures, prompt

__all__ = ["chat_all"]


def chat_all(address: str, pid: int, order: dict[str, Any], **more: Any) -> dict[str, float]:
    """Have as many chats at once as ``order`` says, of the server that ``pid`` is; ``more`` goes into each request."""

    def chat(number: int) -> float:
        return _answer(address, prompt(number, order["round"]), order["tokens"], more)

    with ThreadPoolExecutor(order["chats"]) as threads:
        begin, cpu_s = time.perf_counter(), _cpu_s(pid)
        ends = list(threads.map(chat, range(order["chats"])))
    return figures(order["tokens"], begin, ends, _cpu_s(pid) - cpu_s)


def _cpu_s(pid: int) -> float:
    """CPU time of a process, that of threads that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _answer(address: str, text: str, tokens: int, more: dict[str, Any]) -> float:
    """Read one streamed answer; return when it ended."""
    body = {
        "messages": [{"role": "user", "content": text}],
        "temperature": 0.0,
        "max_tokens": tokens,
        "stream": True,
        **more,
    }
    connection = http.client.HTTPConnection(address)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    pieces, written, reason = 0, None, None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        for choice in event.get("choices", ()):
            pieces += bool(choice["delta"].get("content"))
            reason = choice["finish_reason"] or reason
        written = (event.get("usage") or {}).get("completion_tokens", written)
    end = time.perf_counter()
    connection.close()
    assert reason == "length", reason
    if written is None:  # nobody counts: a piece is a token, but for characters that several make
        assert 0.8 * tokens < pieces <= tokens, pieces
    else:
        assert written == tokens, written
    return end
