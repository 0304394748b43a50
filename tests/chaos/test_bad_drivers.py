"""Plugin folders dropped into a running kernel whose code does what it should not."""

import asyncio

import pytest
from kernel_process import counting, judged, numbers, until, until_event, until_ready
from plugin_folder import write_plugin

from byenatos_sdk.protocol.control import DriverFailed
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Unavailable

MIB = 1 << 20

TALKATIVE = """
import sys, time
for number in range(3000):
    print("line", number, "rubbish" * 200)
sys.stdout.buffer.write(bytes(range(256)) * 4096)
time.sleep(1e6)
"""

# Finds the connected unix socket that the runtime's channel is, past all promises, and writes to it.
RAW_CHANNEL = """
import os, socket, struct, threading
from byenatos_sdk.driver import Driver

def channel():
    for number in range(3, 256):
        try:
            found = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM:
            pid, _, _ = struct.unpack("3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if pid == os.getppid():
                return found
    raise SystemExit("no channel")

class Plugin(Driver):
    async def infer(self, request):
        yield "begun "
        if request.messages[-1].text == "misbehave":
            threading.Thread(target=self.misbehave, daemon=True).start()
        await __import__("asyncio").Event().wait()
    def misbehave(self):
        wire = channel()
        wire.setblocking(True)
        print("about to misbehave", flush=True)
        {deed}
"""

DEEDS = {
    "an endless multipart message": "while True: wire.sendall((b'\\x01\\xff' + bytes(255)) * 256)",
    "a frame header of 4 GiB": "wire.sendall(b'\\x02' + struct.pack('>Q', 1 << 32) + bytes(1 << 20))",
    "a frame that is no msgpack": "wire.sendall(b'\\x00\\x05' + b'\\xc1\\xc1\\xc1\\xc1\\xc1')",
    "a frame of a million events": (
        "body = b'\\xdd' + struct.pack('>I', 262144) + b'\\x92\\x01\\x91\\x23' * 262143\n"
        "        while True: wire.sendall(b'\\x02' + struct.pack('>Q', len(body)) + body)"
    ),
    "a deeply nested frame": "body = b'\\x91' * 250000; wire.sendall(b'\\x02' + struct.pack('>Q', len(body)) + body)",
    "an endless command": "wire.sendall(b'\\x06' + struct.pack('>Q', 1 << 40) + bytes(1 << 20))",
    "an event of a kind that only the kernel sends": (
        "wire.sendall(b'\\x00\\x09' + b'\\x91\\x92\\x01\\x94\\x04\\xa1a\\xa1b\\xa0')"
    ),
    "beats without end": "while True: wire.sendall((b'\\x00\\x07' + b'\\x91\\x92\\x00\\x93\\x23\\x00\\x00') * 4096)",
    "words for nobody without end": (
        "body = b'\\xdd' + struct.pack('>I', 4096) + b'\\x92\\xcd\\xff\\xff\\xa1x' * 4096\n"
        "        while True: wire.sendall(b'\\x02' + struct.pack('>Q', len(body)) + body)"
    ),
    "rubbish": "wire.sendall(os.urandom(1 << 20))",
}


def name_of(request):
    """A name for a plugin of this test's own, since the kernel is shared."""
    return f"bad-{request.node.callspec.id}"


async def undisturbed(client):
    """The echo driver in slot default answers as ever."""
    assert (await client.infer("count", extra=counting(3))).text == numbers(3)


# ---- while they load -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import time\nprint('asleep', flush=True)\ntime.sleep(1e6)", ["asleep", "import"]),
        ("import sys\nprint('leaving', flush=True)\nsys.exit(4)", ["leaving"]),
        ("import os\nprint('gone', flush=True)\nos._exit(5)", ["gone", "5"]),
        ("raise RuntimeError('no engine')", ["no engine"]),
        ("import no_such_engine", ["no_such_engine"]),
        ("class Plugin: pass", ["Plugin", "Driver"]),
        ("Plugin = 3", ["Plugin", "Driver"]),
        ("pass", ["Plugin"]),
        ("syntax error here", ["plugin.py"]),
        (
            TALKATIVE,
            ["line", "rubbish", "import"],
        ),
    ],
    ids=["sleeps", "exits", "vanishes", "raises", "needs", "no-driver", "no-class", "empty", "syntax", "talks"],
)
async def test_a_driver_that_cannot_be_loaded_is_reported_with_its_last_words(kernel, code, words, request):
    bad = name_of(request)
    async with kernel.client() as client, kernel.client() as watcher:
        await until_ready(client)
        before = kernel.rss
        write_plugin(kernel.home, bad, code, import_timeout_s=2.0)
        await until(client, lambda status: bad in judged(status))
        loading = []
        event = await until_event(
            watcher,
            lambda event: isinstance(event, DriverFailed),
            lambda: loading.append(asyncio.ensure_future(client.load(bad))),
        )
        await undisturbed(client)
        with pytest.raises(ByenatosError) as caught:
            await loading[0]
        report = f"{event.reason} {' '.join(event.last_output)} {caught.value.message}"
        for word in words:
            assert word in report
        assert sum(map(len, event.last_output)) < 64 << 10
        status = await client.status()
        assert {one.model for one in status.instances} == {"echo"}
        assert kernel.rss - before < 8 * MIB


async def test_a_driver_that_never_loads_does_not_keep_the_kernel_from_starting(start_kernel, home):
    write_plugin(home, "bad", "import time\ntime.sleep(1e6)")
    kernel = start_kernel(default="bad", slots={"good": "echo"})
    async with kernel.client() as client:
        status = await until_ready(client, "good")
        assert {slot.name: slot.state for slot in status.slots} == {"default": "loading", "good": "ready"}


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ({"extra": "[surprise]\nkey = 1"}, ["plugin.toml", "surprise"]),
        ({"extra": "[settings"}, ["plugin.toml", "TOML"]),
        ({"protocol": "[99]"}, ["plugin.protocol", "99"]),
        ({"entry": "plugin"}, ["plugin.entry", "module:Class"]),
        ({"import_timeout_s": 0}, ["import_timeout_s"]),
        ({"extra": '[[models]]\nid = "same"\n[[models]]\nid = "same"'}, ["models", "once"]),
    ],
    ids=["unknown", "toml", "protocol", "entry", "timeout", "twice"],
)
async def test_a_bad_manifest_is_refused_with_file_key_and_what_was_expected(kernel, folder, words, request):
    bad = name_of(request)
    async with kernel.client() as client:
        await until_ready(client)
        write_plugin(kernel.home, bad, **folder)
        status = await until(client, lambda status: bad in judged(status))
        [plugin] = [plugin for plugin in status.plugins if plugin.id == bad]
        assert plugin.state == "refused"
        for word in words:
            assert word in plugin.reason
        with pytest.raises((NotFound, Unavailable)):
            await client.load(bad)
        await undisturbed(client)


async def test_a_plugin_with_the_name_of_a_shipped_one_is_refused(start_kernel, home):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        write_plugin(home, "echo")
        status = await until(client, lambda status: "refused" in {plugin.state for plugin in status.plugins})
        [plugin] = [plugin for plugin in status.plugins if plugin.state == "refused"]
        assert "taken" in plugin.reason
        await undisturbed(client)


async def test_a_good_plugin_dropped_in_later_supplies_the_slot_that_waits_for_its_model(start_kernel, home):
    kernel = start_kernel(default="late")
    async with kernel.client() as client:
        with pytest.raises(Unavailable, match="late"):
            await client.infer("x")
        write_plugin(home, "late")
        await until_ready(client)
        assert (await client.infer("x")).text == numbers(10)


async def test_a_plugin_that_was_removed_serves_on_until_its_slot_is_swapped(start_kernel, home):
    write_plugin(home, "leaving")
    kernel = start_kernel(default="leaving")
    async with kernel.client() as client:
        await until_ready(client)
        (home.plugins / "leaving").rename(home.path / "taken-away")
        await until(client, lambda status: "leaving" not in {plugin.id for plugin in status.plugins})
        assert (await client.infer("x")).text == numbers(10)
        await client.swap("default", "echo")
        await until(client, lambda status: [one.model for one in status.instances] == ["echo"])
        assert "leaving" not in {model.id for model in await client.models()}


# ---- while they serve ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
async def test_a_driver_that_writes_to_its_channel_what_it_should_not_loses_it_and_nothing_else(
    start_kernel, home, deed
):
    write_plugin(home, "bad", RAW_CHANNEL.replace("{deed}", deed))
    kernel = start_kernel(slots={"bad": "bad"})
    async with kernel.client() as client, kernel.client() as watcher:
        await until_ready(client, "default", "bad")
        mine = client.stream("count", extra=counting(100, 100))
        await anext(mine)
        before = kernel.rss
        innocent = client.stream("x", model="bad")
        await anext(innocent)
        guilty = []
        event = await until_event(
            watcher,
            lambda event: isinstance(event, DriverFailed),
            lambda: guilty.append(client.stream("misbehave", model="bad")),
        )
        assert event.driver == "bad"
        assert kernel.rss - before < 16 * MIB
        with pytest.raises(Unavailable) as caught:
            await innocent.response()
        assert caught.value.partial
        assert innocent.text == "begun "
        assert (await mine.response()).text == numbers(100)
        await until_ready(client, "bad")


async def test_a_garbage_driver_alone_does_not_silence_the_kernel(start_kernel, home):
    write_plugin(home, "bad", RAW_CHANNEL.replace("{deed}", DEEDS["a frame that is no msgpack"]))
    kernel = start_kernel(default="bad")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(Unavailable):
            await client.infer("misbehave")
        for _ in range(10):
            await client.status()


async def test_a_driver_that_prints_without_end_slows_only_itself(start_kernel, home):
    code = "import sys, threading\nfrom byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n"
    code += "    async def start(self, model):\n"
    code += "        threading.Thread(target=self.talk, daemon=True).start()\n"
    code += "    def talk(self):\n        while True: sys.stdout.write('x' * 65536)\n"
    code += "    async def infer(self, request):\n        yield 'still here'\n"
    write_plugin(home, "loud", code)
    kernel = start_kernel(slots={"loud": "loud"})
    async with kernel.client() as client:
        await until_ready(client, "default", "loud")
        before, used = kernel.rss, (await client.status()).cpu_s
        mine = client.stream("count", extra=counting(100, 100))
        assert (await mine.response()).text == numbers(100)
        assert (await client.infer("x", model="loud")).text == "still here"
        assert kernel.rss - before < 8 * MIB
        assert (await client.status()).cpu_s - used < 0.5


async def test_a_driver_that_floods_with_text_is_cut_off_and_others_are_served(start_kernel, home):
    code = "from byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n"
    code += "    async def infer(self, request):\n        while True: yield 'x' * 1000\n"
    write_plugin(home, "flood", code)
    kernel = start_kernel(slots={"flood": "flood"})
    async with kernel.client() as client:
        await until_ready(client, "default", "flood")
        flood = client.stream("x", model="flood")
        with pytest.raises(ByenatosError) as caught:
            await flood.response()
        # the answer's own limit, or, where this process is given less time than the driver, the limit of what may wait
        assert caught.value.code in {"overloaded", "client_too_slow"}
        assert caught.value.partial
        assert flood.text
        if caught.value.code == "overloaded":
            assert len(flood.text) > MIB
        await undisturbed(client)


async def test_a_driver_that_answers_with_what_is_no_delta_fails_that_answer_only(start_kernel, home):
    code = "from byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n    async def infer(self, request):\n"
    code += "        yield 'good '\n        if request.messages[-1].text == 'bad': yield 42\n"
    write_plugin(home, "odd", code)
    kernel = start_kernel(default="odd")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(ByenatosError, match="42"):
            await client.infer("bad")
        assert (await client.infer("good")).text == "good "


async def test_a_request_that_a_driver_does_not_understand_fails_with_what_it_expected(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(InvalidRequest, match="tokens"):
            await client.infer("x", extra={"echo": {"surprise": 1}})


async def test_an_error_that_a_driver_raises_reaches_the_client_with_its_code(start_kernel, home):
    code = "from byenatos_sdk.driver import Driver\nfrom byenatos_sdk.protocol.errors import RateLimited\n"
    code += "class Plugin(Driver):\n    async def infer(self, request):\n        yield 'some'\n"
    code += "        raise RateLimited('slow down', retry_after_s=7.0)\n"
    write_plugin(home, "limited", code)
    kernel = start_kernel(default="limited")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(ByenatosError, match="slow down") as caught:
            await client.infer("x")
        assert (caught.value.code, caught.value.retry_after_s, caught.value.partial) == ("rate_limited", 7.0, True)
