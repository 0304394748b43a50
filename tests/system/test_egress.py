"""A driver with httpx in a real sandbox, a real kernel and broker, and a vendor over real TLS."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from kernel_process import KernelProcess, until, until_ready, write_config
from plugin_folder import write_plugin
from vendor import AUTHORITY, Vendor

from byenatos_kernel.shipped import shipped
from byenatos_sdk.protocol.errors import ByenatosError

CANARY = "sk-canary-0123456789abcdef-never-to-be-seen"

DRIVER = """
import json
import sys
import httpx
from byenatos_sdk.driver import Driver
from byenatos_sdk.egress import async_transport, transport

class Plugin(Driver):
    async def start(self, model):
        self.client = httpx.AsyncClient(transport=async_transport(), timeout=30)

    async def infer(self, request):
        order = json.loads(request.messages[-1].text)
        if order.get("blocking"):
            with httpx.Client(transport=transport()) as client:
                yield client.get(order["url"]).text
            return
        headers = {"authorization": "Bearer the-drivers-own"}
        async with self.client.stream(order.get("method", "POST"), order["url"], json=order, headers=headers) as answer:
            yield f"{answer.status_code} "
            async for text in answer.aiter_text():
                yield text
"""


async def vendor_of_everything(call):
    if call.target == "/v1/stream":
        await call.begin()
        for number in range(3):
            await call.piece(b"data: %d\n\n" % number)
        await call.end()
    elif call.target == "/v1/endless":
        await call.begin()
        await call.piece(b"begun ")
        await asyncio.Event().wait()
    elif call.target == "/v1/error":
        await call.answer(401, body=f"Incorrect API key provided: {call.headers['authorization']}".encode())
    else:
        await call.answer(body=json.dumps(call.headers).encode())


class Setup:
    """A home whose driver `acme` may reach a vendor at localhost; ``ask`` has it make a request."""

    def __init__(
        self,
        home,
        vendor,
        folder: Path,
        source: str,
        paths='["/v1/"]',
        more="",
        network=None,
        driver=DRIVER,
        permissions="",
        lifecycle="",
    ):
        self.home = home
        self.vendor = vendor
        self.base = f"https://localhost:{vendor.port}"
        ca = folder / "ca.pem"
        AUTHORITY.cert_pem.write_to_path(ca)
        home.policies.mkdir(parents=True)
        granted = json.dumps([f"localhost:{vendor.port}"] if network is None else network)
        home.access.write_text(
            f"""
[plugins]
unsigned = true
[drivers.acme]
network = {granted}
addresses = ["127.0.0.1/32", "::1/128"]
ca = "{ca}"
secrets = ["vendor"]
[secrets.vendor]
{source}
"""
        )
        egress = f"""
[[egress]]
host = "localhost"
port = {vendor.port}
paths = {paths}
key = {{secret = "vendor", header = "authorization", prefix = "Bearer "}}
{more}
"""
        write_config(home, default="acme")
        write_plugin(home, "acme", driver, permissions=permissions, extra=lifecycle + egress)

    async def ask(self, client, path, **order):
        url = path if path.startswith("http") else self.base + path
        answer = await client.infer(json.dumps({"url": url, **order}))
        return answer.text

    @property
    def audit(self):
        written = self.home.path / "audit" / "egress.jsonl"
        return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []

    async def audited(self, count):
        """Wait for so many lines: the last one follows its answer."""
        while len(self.audit) < count:
            await asyncio.sleep(0)


def memory_holds(pid: int, needle: bytes) -> bool:
    """Whether a process has the bytes anywhere in memory that can be read."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if not rights.startswith("r") or "[vvar" in line or "[vsyscall" in line:
                continue
            start, end = (int(one, 16) for one in place.split("-"))
            memory.seek(start)
            try:
                if needle in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


def broker_of(kernel: KernelProcess) -> psutil.Process:
    return next(one for one in psutil.Process(kernel.pid).children() if "byenatos_sandbox.broker" in one.cmdline())


@pytest.fixture
def start_with_key(home):
    """Start a kernel with the canary in its environment."""
    started = []

    def start():
        kernel = KernelProcess(home, environment={"ACME_KEY": CANARY})
        started.append(kernel)
        return kernel

    yield start
    for kernel in started:
        kernel.clean_up()


async def test_a_driver_streams_from_its_vendor_and_the_key_is_nowhere_but_with_the_broker(
    home, tmp_path, start_with_key
):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
        kernel = await asyncio.to_thread(start_with_key)
        texts = []
        async with kernel.client() as client:
            texts.append(await setup.ask(client, "/v1/stream"))
            assert texts[0] == "200 data: 0\n\ndata: 1\n\ndata: 2\n\n"
            texts.append(await setup.ask(client, "/v1/error"))
            assert texts[1] == "401 Incorrect API key provided: Bearer " + "*" * len(CANARY)
            texts.append(await setup.ask(client, "/v1/echo"))
            texts.append(await setup.ask(client, "/v1/echo", blocking=True))
            texts.append(await setup.ask(client, "/elsewhere"))
            assert {call.headers["authorization"] for call in vendor.calls} == {f"Bearer {CANARY}"}
            known = await client.secrets()
            assert [(one.name, one.source, one.problem) for one in known] == [("vendor", "variable ACME_KEY", "")]
            status = await client.status()
            if os.getuid() == 0:
                drivers = [one.pid for one in status.instances]
                assert drivers
                keeper = broker_of(kernel)
                assert memory_holds(keeper.pid, CANARY.encode())  # the search finds what is there
                for pid in (kernel.pid, *drivers):
                    assert not memory_holds(pid, CANARY.encode())
                for process in (keeper, *keeper.children(), psutil.Process(kernel.pid)):
                    assert CANARY not in str(process.environ())
                    assert CANARY not in str(process.cmdline())
        assert CANARY not in "".join(texts) + kernel.log
        kernel.stop()
        for path in home.path.rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path


SOCKET_DRIVER = """
import httpx
from byenatos_sdk.driver import Driver
from byenatos_sdk.egress import SOCKET

class Plugin(Driver):
    async def infer(self, request):
        base, blocking = request.messages[-1].text.split()
        headers = {"authorization": "Bearer the-drivers-own"}
        if blocking == "yes":
            with httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET), base_url=base) as client:
                yield client.get("/v1/echo", headers=headers).text
                yield client.get("/elsewhere").text
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=SOCKET), base_url=base) as client:
            async with client.stream("POST", "/v1/stream", headers=headers) as answer:
                async for text in answer.aiter_text():
                    yield text
"""


@pytest.mark.parametrize("preload", ["", "preload = ['httpx']"], ids=["alone", "from a sandboxed template"])
async def test_a_library_that_takes_a_unix_socket_only_reaches_its_vendor(home, tmp_path, start_with_key, preload):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(
            home,
            vendor,
            tmp_path,
            'environment = "ACME_KEY"',
            driver=SOCKET_DRIVER,
            permissions="egress_socket = true",
            lifecycle=preload,
        )
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            text = (await client.infer(f"http://localhost:{vendor.port} yes")).text
            assert '"authorization": "Bearer *' in text
            assert "asks for no access to this path of localhost" in text
            assert text.endswith("data: 0\n\ndata: 1\n\ndata: 2\n\n")
            assert {call.headers["authorization"] for call in vendor.calls} == {f"Bearer {CANARY}"}
            await setup.audited(3)
            (server,) = broker_of(kernel).children()
            server.kill()  # a stream that is asked for meanwhile waits for the next one
            text = (await client.infer(f"http://localhost:{vendor.port} no")).text
            assert text.endswith("data: 2\n\n")
        await setup.audited(4)
        assert [line["status"] for line in setup.audit] == [200, 403, 200, 200]


async def test_what_is_not_granted_is_refused_with_a_reason_and_audited(home, tmp_path, start_with_key):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        more = '[[egress]]\nhost = "other.test"\n'
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"', more=more)
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            for url, reason in (
                ("https://other.test/", "other.test:443 is not granted"),
                ("https://third.test/", "asks for no access to third.test"),
                (f"https://127.0.0.1:{vendor.port}/v1/x", "asks for no access to 127.0.0.1"),
                (f"https://localhost:{vendor.port + 1}/v1/x", "asks for no access to localhost"),
                (setup.base + "/v2/x", "asks for no access to this path"),
            ):
                text = await setup.ask(client, url)
                assert text.startswith("403 ")
                assert reason in text
        assert not vendor.calls
        await setup.audited(5)
        assert [line["status"] for line in setup.audit] == [403] * 5
        assert all(line["driver"] == "acme" and line["refused"] for line in setup.audit)


async def test_a_server_that_is_killed_fails_its_streams_honestly_and_drivers_go_on(home, tmp_path, start_with_key):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            assert (await setup.ask(client, "/v1/stream")).startswith("200 ")
            (server,) = broker_of(kernel).children()

            async def until_killed():
                async for delta in client.stream(json.dumps({"url": setup.base + "/v1/endless"})):
                    if "begun" in getattr(delta, "text", ""):
                        server.kill()

            with pytest.raises(ByenatosError, match=r"RemoteProtocolError|ReadError"):
                await until_killed()
            assert (await setup.ask(client, "/v1/stream")).startswith("200 ")
            assert vendor.calls[-1].headers["authorization"] == f"Bearer {CANARY}"
            (after,) = broker_of(kernel).children()
            assert after.pid != server.pid


async def test_a_killed_keeper_is_replaced_and_a_key_of_the_environment_is_missed_out_loud(
    home, tmp_path, start_with_key
):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            await setup.ask(client, "/v1/stream")
            broker_of(kernel).kill()
            text = ""
            while not text.startswith("503 "):  # the dying server may have answered once more
                with suppress(ByenatosError):  # its connection of before was cut
                    text = await setup.ask(client, "/v1/stream")
            assert "ACME_KEY was not set when the kernel was started" in text
        assert "keys from the environment are lost" in kernel.log


async def test_a_key_in_a_file_is_rotated_without_a_restart(home, tmp_path, start_kernel):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(CANARY)
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, f'file = "{key}"')
        kernel = await asyncio.to_thread(start_kernel, configured=False)
        async with kernel.client() as client:
            await setup.ask(client, "/v1/stream")
            key.write_text("sk-the-next-key-of-them-all")
            while vendor.calls[-1].headers["authorization"] != "Bearer sk-the-next-key-of-them-all":
                await setup.ask(client, "/v1/stream")
            key.chmod(0o644)
            while not (text := await setup.ask(client, "/v1/stream")).startswith("503 "):
                pass
            assert "others can read it (mode 0644); chmod 600" in text


async def test_a_request_that_is_cancelled_is_broken_off_at_the_vendor(home, tmp_path, start_with_key):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            stream = client.stream(json.dumps({"url": setup.base + "/v1/endless"}))
            async for delta in stream:
                if "begun" in getattr(delta, "text", ""):
                    break
            await stream.aclose()
            await vendor.gone.wait()


async def test_the_brokers_processes_are_confined(home, tmp_path, start_with_key):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            await setup.ask(client, "/v1/stream")
            await setup.audited(1)
            keeper = broker_of(kernel)
            (server,) = keeper.children()
            for process, filters in ((keeper, "0"), (server, "2")):
                status = Path(f"/proc/{process.pid}/status").read_text()
                known = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                assert known["NoNewPrivs"] == "1"
                assert known["CapEff"] == known["CapPrm"] == known["CapBnd"] == "0000000000000000"
                assert known["Seccomp"] == filters
            assert os.getsid(keeper.pid) != os.getsid(kernel.pid)
            written = {Path(one.path).name for one in server.open_files()}
            assert written == {"test.log", "egress.jsonl"}


def test_a_killed_kernel_takes_its_broker_along(home, tmp_path, start_with_key):
    vendor = Vendor(names=("localhost",))
    vendor.port = 9
    Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
    kernel = start_with_key()
    assert broker_of(kernel)
    assert kernel.kill() == []
    assert kernel.process.returncode == -signal.SIGKILL


async def test_rules_that_are_changed_count_for_drivers_that_run(home, tmp_path, start_with_key):
    async with Vendor(vendor_of_everything, names=("localhost",)) as vendor:
        setup = Setup(home, vendor, tmp_path, 'environment = "ACME_KEY"')
        kernel = await asyncio.to_thread(start_with_key)
        async with kernel.client() as client:
            assert (await setup.ask(client, "/v1/stream")).startswith("200 ")
            (before,) = (await client.status()).instances
            granted = home.access.read_text()
            home.access.write_text(granted.replace('secrets = ["vendor"]', "secrets = []"))
            text = ""
            while not text.startswith("403 "):
                with suppress(ByenatosError):  # what goes on when something is taken away is broken off
                    text = await setup.ask(client, "/v1/stream")
            assert "key 'vendor' is not granted" in text
            key = tmp_path / "key"
            key.touch(0o600)
            key.write_text("sk-from-a-file-0123456789")
            home.access.write_text(granted.replace('environment = "ACME_KEY"', f'file = "{key}"'))
            while vendor.calls[-1].headers["authorization"] != "Bearer sk-from-a-file-0123456789":
                await setup.ask(client, "/v1/stream")
            home.access.write_text("[drivers.acme]\nnetwork = true\n")
            status = await until(client, lambda status: any("holds until" in one for one in status.warnings))
            assert (await setup.ask(client, "/v1/stream")).startswith("200 ")
            profile = (shipped("policies") / "sandbox" / "cloud-api.toml").read_text()
            (home.policies / "sandbox").mkdir()
            (home.policies / "sandbox" / "cloud-api.toml").write_text(profile.replace("tasks = 32", "tasks = 31"))
            status = await until(client, lambda status: any("runs by rules" in one for one in status.warnings))
            assert any("byenatos swap default acme" in one for one in status.warnings)
            assert [one.epoch for one in status.instances] == [before.epoch]
            os.kill(before.pid, signal.SIGKILL)
            await until(client, lambda status: any(one.epoch > before.epoch for one in status.instances))
            await until_ready(client)
            assert not any("runs by rules" in one for one in (await client.status()).warnings)
