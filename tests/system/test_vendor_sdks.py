"""The SDKs of two vendors, as they are published, in drivers with everything around them; their vendors speak real TLS.

One is imported from the kernel's own packages, the other from packages that its driver alone has: installed by
``byenatos driver install`` from a lock with hashes. What they send and what becomes of it is the vendors' protocol; the
key that they are given is not the key.
"""

import asyncio
import csv
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from kernel_process import KernelProcess, until_ready, write_config
from plugin_folder import write_plugin
from publisher import Publisher
from vendor import AUTHORITY, Vendor

from byenatos_sdk.home import Home

CANARY = "sk-canary-9f8e7d6c5b4a-never-to-be-seen"

OPENAI = """
import httpx2
import openai
from byenatos_sdk.driver import Driver
from byenatos_sdk.egress import async_transport, transport

class Plugin(Driver):
    async def start(self, model):
        self.settings = {"api_key": "-", "base_url": model.settings["base"] + "/v1"}
        http = httpx2.AsyncClient(transport=async_transport("httpx2"))
        self.client = openai.AsyncOpenAI(http_client=http, **self.settings)

    async def infer(self, request):
        asked = {"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]}
        how = request.messages[-1].text
        if how == "stream":
            async for chunk in await self.client.chat.completions.create(stream=True, **asked):
                yield chunk.choices[0].delta.content or ""
        elif how == "plain":
            yield (await self.client.chat.completions.create(**asked)).choices[0].message.content
        elif how == "blocking":
            with openai.OpenAI(http_client=httpx2.Client(transport=transport("httpx2")), **self.settings) as client:
                for chunk in client.chat.completions.create(stream=True, **asked):
                    yield chunk.choices[0].delta.content or ""
        elif how == "denied":
            try:
                await self.client.with_options(max_retries=0).models.list()
            except openai.APIStatusError as error:
                yield f"{error.status_code} {error.response.headers['x-byenatos-egress']}"
        else:
            yield openai.__file__
"""

ANTHROPIC = """
import anthropic
import httpx2
from byenatos_sdk.driver import Driver
from byenatos_sdk.egress import async_transport, transport

class Plugin(Driver):
    async def start(self, model):
        self.settings = {"api_key": "-", "base_url": model.settings["base"]}
        http = httpx2.AsyncClient(transport=async_transport("httpx2"))
        self.client = anthropic.AsyncAnthropic(http_client=http, **self.settings)

    async def infer(self, request):
        asked = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        how = request.messages[-1].text
        if how == "stream":
            async with self.client.messages.stream(**asked) as stream:
                async for text in stream.text_stream:
                    yield text
        elif how == "plain":
            yield (await self.client.messages.create(**asked)).content[0].text
        elif how == "blocking":
            http = httpx2.Client(transport=transport("httpx2"))
            with anthropic.Anthropic(http_client=http, **self.settings) as client:
                yield client.messages.create(**asked).content[0].text
        else:
            yield anthropic.__file__
"""


MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "claude-x", "stop_sequence": None}
USAGE = {"input_tokens": 1, "output_tokens": 3}
WORDS = ("one ", "two ", "three")


def chunk(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", "choices": [choice]}


def chat_stream():
    for word in WORDS:
        yield b"data: " + json.dumps(chunk({"content": word})).encode()
    yield b"data: " + json.dumps(chunk({}, "stop")).encode()
    yield b"data: [DONE]"


def message_stream():
    empty = {**MESSAGE, "content": [], "stop_reason": None, "usage": USAGE}
    for event in (
        {"type": "message_start", "message": empty},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
        {"type": "message_stop"},
    ):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}".encode()


WHOLE = {
    "/v1/chat/completions": {
        **chunk({}),
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(WORDS)}}],
    },
    "/v1/messages": {
        **MESSAGE,
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "stop_reason": "end_turn",
        "usage": USAGE,
    },
}
STREAMS = {"/v1/chat/completions": chat_stream, "/v1/messages": message_stream}


async def two_vendors(call):
    if not json.loads(call.body).get("stream"):
        body = json.dumps(WHOLE[call.target]).encode()
        await call.answer(headers=[("content-type", "application/json")], body=body)
        return
    await call.begin()
    for event in STREAMS[call.target]():
        await call.piece(event + b"\n\n")
    await call.end()


def as_wheel(package: str, folder: Path) -> str:
    """Pack what is installed of a package as it was packed; return its line of a lock."""
    installed = importlib.metadata.distribution(package)
    wheel = folder / f"{package}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, *_ in csv.reader((installed.read_text("RECORD") or "").splitlines()):
            if not name.startswith("../") and not name.endswith((".pyc", "/INSTALLER", "/REQUESTED")):
                archive.write(str(installed.locate_file(name)), name)
    return f"{package}=={installed.version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def manifest(vendor: Vendor, header: str, prefix: str, path: str) -> str:
    return f"""
[[egress]]
host = "localhost"
port = {vendor.port}
methods = ["POST"]
paths = ["{path}"]
key = {{secret = "vendor", header = "{header}", prefix = "{prefix}"}}
[settings]
base = "https://localhost:{vendor.port}"
"""


async def test_two_vendors_sdks_stream_through_the_broker_from_sandboxes(home, tmp_path):
    async with Vendor(two_vendors, names=("localhost",)) as vendor:
        publisher = Publisher(home, tmp_path)
        workshop = Home(tmp_path / "workshop")
        ca, wheels = tmp_path / "ca.pem", tmp_path / "wheels"
        AUTHORITY.cert_pem.write_to_path(ca)
        wheels.mkdir()
        granted = f'network = ["localhost:{vendor.port}"]\naddresses = ["127.0.0.1/32", "::1/128"]\nca = "{ca}"\n'
        granted += 'secrets = ["vendor"]\n'
        home.access.write_text(
            f"[drivers.sdk-openai]\n{granted}[drivers.sdk-anthropic]\n{granted}"
            '[secrets.vendor]\nenvironment = "VENDOR_KEY"\n'
        )
        lock = await asyncio.to_thread(as_wheel, "anthropic", wheels)
        write_plugin(
            workshop, "sdk-openai", OPENAI, extra=manifest(vendor, "authorization", "Bearer ", "/v1/chat/completions")
        )
        write_plugin(
            workshop,
            "sdk-anthropic",
            ANTHROPIC,
            extra=manifest(vendor, "x-api-key", "", "/v1/messages"),
            more={"requirements.lock": lock},
        )
        for name in ("sdk-openai", "sdk-anthropic"):
            publisher.sign(workshop.plugins / name)
        (workshop.plugins / "sdk-openai").rename(home.plugins / "sdk-openai")
        command = [sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), "driver", "install",
                   str(workshop.plugins / "sdk-anthropic"), "--find-links", str(wheels)]  # fmt: skip
        await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
        write_config(home, slots={"sdk-openai": "sdk-openai", "sdk-anthropic": "sdk-anthropic"})
        kernel = await asyncio.to_thread(KernelProcess, home, environment={"VENDOR_KEY": CANARY})
        try:
            async with kernel.client() as client:
                await until_ready(client, "sdk-openai", "sdk-anthropic")
                texts = {}
                for name in ("sdk-openai", "sdk-anthropic"):
                    for how in ("stream", "plain", "blocking", "where"):
                        texts[name, how] = (await client.infer(how, model=name)).text
                texts["denied"] = (await client.infer("denied", model="sdk-openai")).text
                status = await client.status()
                assert all(not one.layers and not one.open for one in status.instances)
        finally:
            kernel.clean_up()
    for name in ("sdk-openai", "sdk-anthropic"):
        assert {how: texts[name, how] for how in ("stream", "plain", "blocking")} == dict.fromkeys(
            ("stream", "plain", "blocking"), "one two three"
        )
    assert texts["sdk-anthropic", "where"].startswith(str(home.environments))
    assert not texts["sdk-openai", "where"].startswith(str(home.path))
    assert texts["denied"] == "403 refused"
    keys = {call.target: (call.headers.get("authorization"), call.headers.get("x-api-key")) for call in vendor.calls}
    assert keys == {"/v1/chat/completions": (f"Bearer {CANARY}", None), "/v1/messages": (None, CANARY)}
    audit = [json.loads(line) for line in (home.path / "audit" / "egress.jsonl").read_text().splitlines()]
    assert sorted((one["driver"], one["status"]) for one in audit) == [("sdk-anthropic", 200)] * 3 + [
        *([("sdk-openai", 200)] * 3),
        ("sdk-openai", 403),
    ]
    assert CANARY not in kernel.log + json.dumps(audit)
