"""The floor: two processes, one ZeroMQ hop, no code in between. Answers each request with the same ready frame."""

import sys

import zmq

from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import Finish, TextDelta, Usage

__all__ = ["serve"]


def serve(endpoint: str) -> None:
    """Answer until the process is ended."""
    answer = encode([(1, TextDelta("y" * 400)), (1, Finish("stop", Usage(0, 1), "echo"))])
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.bind(endpoint)
    while True:
        peer = socket.recv()
        socket.recv()
        socket.recv()
        socket.send(peer, zmq.SNDMORE)
        socket.send(answer)


if __name__ == "__main__":
    serve(sys.argv[1])
