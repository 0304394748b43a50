"""llama-cpp-python's server in the engine's benchmark: ``llama_cpp.server``, over HTTP, with its own defaults but two.

It would stop a running answer for a newer request (``interrupt_requests``), which would end in no answer at all here:
they wait in line instead. And its weights are not rearranged (``use_extra_bufts``), as ours are not: on processors with
AMX, llama-cpp-python 0.3.36 dies of a segmentation fault in the first step with what llama.cpp rearranges for these.
"""

import json
import socket
import subprocess
import sys
import time
from typing import Any

from tests.bench.engine_http import chat_all

END = "2"  # SmolLM2's end of a turn
START_S = 60.0
SERVE = "--serve"


def main() -> None:
    """Start the server in a process of its own, then carry out orders."""
    if sys.argv[1:2] == [SERVE]:
        _serve(sys.argv[2:])
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", sys.argv[1], "--port", str(port), "--n_ctx", "8192", "--interrupt_requests", "False"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.engine_python", SERVE, *options],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        _until_listening(server, port)
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            found = chat_all(f"127.0.0.1:{port}", server.pid, json.loads(line), logit_bias={END: -100.0})
            print(json.dumps(found), flush=True)
    finally:
        server.kill()
        server.wait()


def _serve(options: list[str]) -> None:
    """Be ``python -m llama_cpp.server``."""
    from llama_cpp import llama_cpp
    from llama_cpp.server import __main__ as server

    original = llama_cpp.llama_model_default_params

    def defaults() -> Any:
        parameters = original()
        parameters.use_extra_bufts = False
        return parameters

    llama_cpp.llama_model_default_params = defaults
    sys.argv = ["llama_cpp.server", *options]
    server.main()


def _until_listening(server: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as client:
            if not client.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise SystemExit(f"llama_cpp.server does not listen after {START_S:.0f} s, or has ended")


if __name__ == "__main__":
    main()
