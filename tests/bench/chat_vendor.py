"""A vendor of chat models for the benchmark: Chat Completions over TLS, streamed as fast as the other side takes them.

The last message says what to do: ``"burst tokens"``, so many tokens in one write, and how many in all; ``"stall"``, one
token and nothing more until the other side leaves, the moment of which is printed; ``"hang"``, nothing at all, of
which the beginning is printed too.
"""

import asyncio
import json
import ssl
import sys
import time

__all__ = ["HEAD", "answer", "event"]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HIGH_WATER = 64 << 10


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    """Write one chunk as OpenAI does."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1763800000, "model": "bench"}
    return b"data: " + json.dumps({**head, "choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"


def answer(text: str) -> bytes:
    """Write a short answer as a whole stream."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}\n\n'
    return b"".join((event({"role": "assistant", "content": text}), event({}, "stop"), usage, b"data: [DONE]\n\n"))


ANSWER = answer("y" * 400)
TOKEN = event({"content": "token "})
END = event({}, "stop") + b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """Frame data as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Chat(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._data = b""
        self._left = self._burst = 0
        self._full = self._stalled = False

    def connection_lost(self, _error: Exception | None) -> None:
        if self._stalled:
            print(time.perf_counter_ns(), flush=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].partition(b"\r")[0])
            body = self._data[end + 4 : end + 4 + length]
            if len(body) < length:
                return
            self._data = self._data[end + 4 + length :]
            self._answer(json.loads(body)["messages"][-1]["content"])

    def _answer(self, order: str) -> None:
        if order == "stall":
            self._stalled = True
            self._transport.write(HEAD + chunk(TOKEN))
            return
        if order == "hang":
            self._stalled = True
            print("asked", flush=True)
            return
        words = order.split()
        if len(words) != 2 or not words[0].isdigit():
            self._transport.write(HEAD + chunk(ANSWER) + b"0\r\n\r\n")
            return
        self._burst, self._left = map(int, words)
        self._transport.write(HEAD)
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """One write in a turn of the loop, so that streams take turns."""
        if self._full or self._transport.is_closing():
            return
        count = min(self._burst, self._left)
        self._left -= count
        if self._left:
            self._transport.write(chunk(TOKEN * count))
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._transport.write(chunk(TOKEN * count + END) + b"0\r\n\r\n")

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._left:
            self._go_on()


async def serve(folder: str) -> None:
    """Serve with the certificate in ``folder`` until the process is ended; the port is the first line printed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/vendor.pem")
    context.set_alpn_protocols(["http/1.1"])
    server = await asyncio.get_running_loop().create_server(Chat, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
