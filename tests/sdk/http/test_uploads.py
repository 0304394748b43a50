"""What a request with large pictures costs on its way to the vendor."""

import asyncio
import hashlib
import json
import socket
import tracemalloc

from byenatos_sdk.driver import Model
from byenatos_sdk.egress import pool
from byenatos_sdk.formats import anthropic_messages, openai_chat
from byenatos_sdk.http import HTTPDriver
from byenatos_sdk.protocol.messages import Finish, Image, InferenceRequest, Message, Text

SIZE = 24 << 20
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": "A cat"}, "finish_reason": "stop"}]}).encode()
FAILED = b"HTTP/1.1 503 \r\ncontent-type: application/json\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{}"


class Acme(HTTPDriver):
    format = openai_chat
    formats = (anthropic_messages,)
    base_url = "https://api.acme.test/v1"


class Tasting:
    """A broker that keeps nothing of a request but its digest and its length."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.taken = []

    async def dial(self, timeout_s=10.0):
        ours, its = socket.socketpair()
        self.task = asyncio.ensure_future(self._serve(*await asyncio.open_connection(sock=its)))
        return ours

    async def _serve(self, reader, writer):
        while self.answers:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            left = length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            digest = hashlib.sha256()
            while left:
                piece = await reader.read(min(left, 1 << 16))
                digest.update(piece)
                left -= len(piece)
            self.taken.append((length, digest.hexdigest()))
            writer.write(self.answers.pop(0))
        await reader.read()
        writer.close()


def test_a_large_picture_takes_little_more_memory_than_itself_and_arrives_whole(monkeypatch, run):
    whole = b"HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
    broker = Tasting(FAILED, whole)
    monkeypatch.setattr(pool, "dial_async", broker.dial)
    picture = Image("image/png", bytes(range(256)) * (SIZE // 256))
    request = InferenceRequest((Message("user", (Text("What is it?"), picture)),))
    heard = []

    async def main():
        driver = Acme({})
        await driver.start(Model("acme-1", None, {}))
        tracemalloc.start()
        try:
            heard.extend([delta async for delta in driver.infer(request)])
            heard.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
            await driver.stop()
        await broker.task

    run(main())

    text, finish, most = heard
    assert (text, type(finish)) == ("A cat", Finish)
    assert most < SIZE // 6, f"{most >> 20} MiB for a picture of {SIZE >> 20}"
    driver = Acme({})
    driver.vendor_model = "acme-1"
    body = openai_chat.encode_request(driver.prepared(request), stream=True).wire.body
    assert broker.taken == [(len(body), hashlib.sha256(body).hexdigest())] * 2
