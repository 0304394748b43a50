"""A port of the broker in the test's own process, with real sockets and TLS; only names are looked up in a table.

(A table of names that the operator could hand to a broker would be a way around the very checks under test.)
"""

import array
import asyncio
import json
import socket
import threading
from pathlib import Path

import h11
import msgspec
from vendor import AUTHORITY, HOST

from byenatos_sandbox.broker.audit import Audit
from byenatos_sandbox.broker.connect import trust
from byenatos_sandbox.broker.messages import Key, OpenPort, Rule, Source
from byenatos_sandbox.broker.port import Port
from byenatos_sandbox.broker.room import Room
from byenatos_sandbox.broker.sources import SecretError, Sources
from byenatos_sandbox.broker.vault import Found, Missing, Vault

KEY = "sk-canary/0123+456789=abcdef"
LOOPBACK = ("127.0.0.1/32",)


class Answer:
    def __init__(self, status, headers, body, whole):
        self.status, self.headers, self.body, self.whole = status, headers, body, whole

    @property
    def refused(self):
        return self.headers.get("x-byenatos-egress") == "refused"

    @property
    def reason(self):
        return json.loads(self.body)["error"]["message"]

    def json(self):
        return json.loads(self.body)


class Keeper(threading.Thread):
    """Answers a vault as the keeper does, from real sources."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.ours, self.its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.file = folder / "key"
        self.write(KEY)
        self.sources = Sources({"VENDOR_KEY": "id-0123456789:secret-0123456789"})
        self.sources.replace(
            {
                "vendor": Source(file=str(self.file)),
                "tencent": Source(environment="VENDOR_KEY"),
                "absent": Source(environment="NOT_SET"),
            }
        )
        self.start()

    def write(self, key):
        new = self.file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(key + "\n")
        new.rename(self.file)

    def run(self):
        with self.ours:
            while name := self.ours.recv(256).decode():
                try:
                    answer = Found(name, self.sources.read(name))
                except SecretError as error:
                    answer = Missing(name, str(error))
                self.ours.send(msgspec.msgpack.encode(answer))


class Broker:
    """``ask`` sends a request as bytes or in parts and returns the answer; ``audit`` are the lines written."""

    def __init__(self, folder: Path, *rules: Rule, names=None, addresses=LOOPBACK, driver="acme", room=None):
        self.folder = folder
        self.keeper = Keeper(folder)
        self.looked_up = []
        self.names = {HOST: ["127.0.0.1"]} if names is None else names
        self.ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self._dialling = asyncio.Lock()
        self._audit = Audit(folder)
        self.vault = Vault(self.keeper.its)
        self.port = Port(
            OpenPort(1, driver, rules, addresses),
            its,
            vault=self.vault,
            audit=self._audit,
            room=room or Room(),
            context=trust(AUTHORITY.cert_pem.bytes().decode()),
            look_up=self._look_up,
        )

    async def _look_up(self, host, port):
        self.looked_up.append(host)
        found = self.names.get(host)
        if found is None:
            raise OSError(0, "no such name")
        return found() if callable(found) else found

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.port.close()
        while self.port.lines:
            await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(self.keeper.its)
        self.keeper.its.close()
        self.keeper.join()
        self.ours.close()
        self._audit.close()

    @property
    def audit(self):
        path = self.folder / "egress.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def audited(self, count=1):
        """The lines, once there are so many: the last one follows its answer."""
        while len(found := self.audit) < count:
            await asyncio.sleep(0)
        return found

    async def dial(self):
        loop = asyncio.get_running_loop()
        async with self._dialling:
            self.ours.send(b"?")
            readable = asyncio.Event()
            loop.add_reader(self.ours, readable.set)
            await readable.wait()
            loop.remove_reader(self.ours)
            answer, ancillary, _, _ = self.ours.recvmsg(300, socket.CMSG_SPACE(4))
        if answer != b"+":
            return answer
        numbers = array.array("i")
        numbers.frombytes(ancillary[0][2])
        return await asyncio.open_connection(sock=socket.socket(fileno=numbers[0]))

    async def ask(self, request: bytes, stream=None) -> Answer:
        reader, writer = stream or await self.dial()
        writer.write(request)
        answer = await read_answer(reader)
        if stream is None:
            writer.close()
        return answer

    async def get(self, path="/v1/x", host=None, headers="", method="GET", body=b"", stream=None):
        length = f"content-length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: {host or self.host}\r\n{headers}{length}\r\n"
        return await self.ask(head.encode() + body, stream)

    @property
    def host(self):
        rule = self.port.rules[0]
        return f"{rule.host}:{rule.port}"


async def read_answer(reader) -> Answer:
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    http.send(h11.EndOfMessage())
    head, body = None, b""
    try:
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                return Answer(0, {}, b"", False)
        whole = True
    except (h11.RemoteProtocolError, ConnectionError):
        whole = False
    if head is None:
        return Answer(0, {}, body, whole=False)
    headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    return Answer(head.status_code, headers, body, whole)


def rule(vendor, **fields):
    usual = {
        "host": HOST,
        "port": vendor.port,
        "paths": ("/v1/",),
        "key": Key("vendor", header="Authorization", prefix="Bearer "),
    }
    return Rule(**usual | fields)
