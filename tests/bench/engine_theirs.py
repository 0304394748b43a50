"""llama.cpp's server in the engine's benchmark, as the wheel ``xllamacpp`` brings it, over HTTP."""

import json
import os
import sys
from urllib.parse import urlsplit

import xllamacpp
from tests.bench.engine_http import chat_all


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
            found = chat_all(
                address, os.getpid(), json.loads(line), ignore_eos=True, stream_options={"include_usage": True}
            )
            answers.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
