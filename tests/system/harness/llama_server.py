"""llama.cpp's own server with a real model, from the ``xllamacpp`` wheel: ``llama_server.py MODEL`` runs one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["llama_server"]


@contextmanager
def llama_server(model: Path) -> Iterator[int]:
    """Run the server; yield its port once it serves."""
    command = [sys.executable, __file__, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith(b"http://")), b"")
            assert line, "llama.cpp's server did not start"
            yield int(line.rpartition(b":")[2])
        finally:
            process.kill()


def _serve(model: str) -> None:
    import threading

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.port = 0
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.warmup = False
    parameters.cpuparams.n_threads = 1  # it spins while it waits for its other threads
    server = xllamacpp.Server(parameters)  # returns once the model is loaded
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    _serve(sys.argv[1])
