"""The naive kernel's driver: does what the echo driver does for ``reply`` and ``tokens``, with the least code."""

import sys
from typing import Any

import zmq

from byenatos_sdk.protocol.frames import Start, decode_request, encode, split_driver_frame
from byenatos_sdk.protocol.messages import Finish

__all__ = ["serve"]

HIGH_WATER = 100_000


def serve(endpoint: str) -> None:
    """Answer until the process is ended."""
    socket = zmq.Context().socket(zmq.PAIR)
    socket.set_hwm(HIGH_WATER)
    socket.connect(endpoint)
    remaining: dict[int, int] = {}
    behaviour: dict[str, Any] = {}
    while True:
        while not remaining or socket.poll(0):
            header, body = split_driver_frame(socket.recv())
            if isinstance(header, Start):
                behaviour = decode_request(body).extra["echo"]
                if "reply" in behaviour:
                    socket.send(encode([(header.id, behaviour["reply"]), (header.id, Finish())]))
                else:
                    remaining[header.id] = behaviour["tokens"]
        delta = behaviour["text"]
        events: list[tuple[int, str | Finish]] = []
        for number, left in list(remaining.items()):
            if left:
                remaining[number] = left - 1
                events.append((number, delta))
            else:
                del remaining[number]
                events.append((number, Finish()))
        if behaviour["batch"] == "single":
            for event in events:
                socket.send(encode([event]))
        else:
            socket.send(encode(events))


if __name__ == "__main__":
    serve(sys.argv[1])
