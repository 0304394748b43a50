"""Their side of the engine's benchmark: llama.cpp's server, as the wheel ``xllamacpp`` brings it, over HTTP."""

import http.client
import json
import os
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import xllamacpp
from tests.bench.engine_chats import figures, prompt


def main() -> None:
    """Start the server, then carry out orders."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.n_ctx = 8192
    parameters.n_parallel = 8
    out = os.dup(1)
    os.dup2(2, 1)  # its log
    server = xllamacpp.Server(parameters)
    address = urlsplit(server.listening_address).netloc
    with os.fdopen(out, "w", buffering=1) as answers:
        answers.write("{}\n")
        for line in sys.stdin:
            answers.write(json.dumps(_chats(address, json.loads(line))) + "\n")


def _chats(address: str, order: dict[str, Any]) -> dict[str, float]:
    ends = [0.0] * order["chats"]

    def chat(number: int) -> None:
        ends[number] = _answer(address, prompt(number, order["round"]), order["tokens"])

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(order["chats"])]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return figures(order["tokens"], begin, ends)


def _answer(address: str, text: str, tokens: int) -> float:
    """Read one streamed answer; return when it ended."""
    body = {
        "messages": [{"role": "user", "content": text}],
        "temperature": 0.0,
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection(address)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    written = 0
    for line in response:
        if line.startswith(b"data: {"):
            usage = json.loads(line[6:]).get("usage")
            written = usage["completion_tokens"] if usage else written
    end = time.perf_counter()
    connection.close()
    assert written == tokens, written
    return end


if __name__ == "__main__":
    main()
