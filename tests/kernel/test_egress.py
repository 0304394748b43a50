"""What is granted of what is asked for, and a real broker that the kernel keeps up."""

import array
import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from byenatos_kernel.access import Access, DriverRules, SecretSource
from byenatos_kernel.egress import Egress
from byenatos_kernel.egress_rules import granted_rules
from byenatos_sandbox.broker import Key
from byenatos_sandbox.channel import PASS_RIGHTS
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import Egress as Asked
from byenatos_sdk.manifest import EgressKey, Manifest, Plugin

CEILING_S = 60


def manifest(*asked: Asked) -> Manifest:
    return Manifest(Plugin("acme", "1", "driver:Acme"), egress=list(asked))


def test_what_is_asked_for_and_granted_is_a_rule():
    asked = Asked("api.acme.test", paths=["/v1/"], key=EgressKey("acme", header="x-api-key"))
    granted = DriverRules(network=("api.acme.test:443",), secrets=("acme",))
    (rule,) = granted_rules(manifest(asked), granted)
    assert (rule.host, rule.port, rule.paths, rule.refused) == ("api.acme.test", 443, ("/v1/",), "")
    assert rule.key == Key("acme", header="x-api-key")


@pytest.mark.parametrize(
    ("granted", "reason"),
    [
        (DriverRules(), "api.acme.test:443 is not granted: it is missing in `network` of [drivers.acme]"),
        (DriverRules(network=("api.acme.test:8443",)), "is missing in `network`"),
        (DriverRules(network=("api.acme.test:443",)), "key 'acme' is not granted: it is missing in `secrets`"),
    ],
)
def test_what_is_not_granted_is_a_rule_that_says_what_is_missing(granted, reason):
    asked = Asked("api.acme.test", key=EgressKey("acme", header="x-api-key"))
    (rule,) = granted_rules(manifest(asked), granted)
    assert reason in rule.refused


def test_what_is_granted_and_not_asked_for_is_no_rule():
    assert granted_rules(manifest(), DriverRules(network=("api.acme.test:443",))) == ()


def test_a_driver_that_asks_for_any_host_gets_those_that_are_granted_and_no_other_request_names():
    asked = (
        Asked("api.acme.test", key=EgressKey("acme", header="x-api-key")),
        Asked("*", paths=["/v1/"], key=EgressKey("own", header="authorization")),
        Asked("*", scheme="http"),
    )
    places = ("api.acme.test:443", "other.test:8443", "http://box:9000")
    named, secure, plain = granted_rules(manifest(*asked), DriverRules(network=places, secrets=("acme", "own")))
    assert (named.host, named.key.secret) == ("api.acme.test", "acme")
    assert (secure.host, secure.port, secure.scheme, secure.paths) == ("other.test", 8443, "https", ("/v1/",))
    assert secure.key.secret == "own"
    assert (plain.host, plain.port, plain.scheme, plain.key) == ("box", 9000, "http", None)
    assert (named.refused, secure.refused, plain.refused) == ("", "", "")
    without = granted_rules(manifest(*asked), DriverRules(network=("other.test:443",), secrets=("acme",)))
    assert [(rule.host, rule.key is None) for rule in without] == [("api.acme.test", False), ("other.test", True)]
    assert without[0].refused


def test_plain_http_that_is_granted_as_such_is_for_those_who_ask_for_it():
    asked = (Asked("localhost", port=80, scheme="http"), Asked("localhost", port=443))
    plain, secure = granted_rules(
        manifest(*asked), DriverRules(network=("http://localhost:80", "http://localhost:443"))
    )
    assert not plain.refused
    assert secure.refused


def with_egress(tmp_path: Path, access: Access, doing):
    async def main():
        egress = Egress(Home(tmp_path), access)
        try:
            async with asyncio.timeout(CEILING_S):
                await doing(egress)
        finally:
            await egress.close()

    asyncio.run(main())


async def dial(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Dial on a driver's end, as a driver does."""
    loop = asyncio.get_running_loop()
    end.setblocking(False)
    end.send(b"?")
    readable = asyncio.Event()
    loop.add_reader(end, readable.set)
    await readable.wait()
    loop.remove_reader(end)
    _, ancillary, _, _ = end.recvmsg(300, socket.CMSG_SPACE(4))
    numbers = array.array("i")
    numbers.frombytes(ancillary[0][2])
    return await asyncio.open_connection(sock=socket.socket(fileno=numbers[0]))


async def ask(end: socket.socket) -> bytes:
    """Make a request on a driver's end; the answer's head."""
    reader, writer = await dial(end)
    writer.write(b"GET / HTTP/1.1\r\nhost: api.acme.test\r\n\r\n")
    try:
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


def test_a_driver_that_asks_for_nothing_gets_no_port_and_starts_no_broker(tmp_path):
    async def doing(egress):
        assert egress.open(manifest()) is None
        assert egress.pid == 0

    with_egress(tmp_path, Access(), doing)


def test_a_port_outlives_the_server_and_the_keeper_that_served_it(tmp_path):
    async def doing(egress):
        port = egress.open(manifest(Asked("api.acme.test")))
        assert (await ask(port.driver_end)).startswith(b"HTTP/1.1 403 ")
        for _ in range(3):
            (server,) = Path(f"/proc/{egress.pid}/task/{egress.pid}/children").read_text().split()
            os.kill(int(server), signal.SIGKILL)
            assert (await ask(port.driver_end)).startswith(b"HTTP/1.1 403 ")
        keeper = egress.pid
        os.kill(keeper, signal.SIGKILL)
        while egress.pid in {keeper, 0}:
            await asyncio.sleep(0)
        assert (await ask(port.driver_end)).startswith(b"HTTP/1.1 403 ")

    with_egress(tmp_path, Access(), doing)


def test_a_closed_port_is_closed_at_the_broker_as_well(tmp_path):
    async def doing(egress):
        first, second = (egress.open(manifest(Asked("api.acme.test"))) for _ in range(2))
        end = socket.socket(fileno=os.dup(first.driver_end.fileno()))
        assert (await ask(end)).startswith(b"HTTP/1.1 403 ")
        first.close()
        with end:
            end.setblocking(False)
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(end, gone.set)
            await gone.wait()
            asyncio.get_running_loop().remove_reader(end)
            assert end.recv(1) == b""
        assert (await ask(second.driver_end)).startswith(b"HTTP/1.1 403 ")

    with_egress(tmp_path, Access(), doing)


def test_many_ports_are_opened_before_the_broker_listens(tmp_path):
    async def doing(egress):
        asked = [Asked("api.acme.test", paths=[f"/{'x' * 60}/{number}/" for number in range(30)])]
        ports = [egress.open(manifest(*asked)) for _ in range(200)]
        for port in (ports[0], ports[99], ports[-1]):
            assert (await ask(port.driver_end)).startswith(b"HTTP/1.1 403 ")

    with_egress(tmp_path, Access(), doing)


def test_keys_are_listed_by_name_with_what_is_wrong_with_them(tmp_path):
    key = tmp_path / "key"
    key.touch(0o644)
    key.write_text("sk-0123456789")
    sources = {
        "absent": SecretSource(environment="ACME_NOT_SET"),
        "loose": SecretSource(file=str(key)),
    }

    async def doing(egress):
        absent, loose = await egress.secrets()
        assert (absent.name, absent.source) == ("absent", "variable ACME_NOT_SET")
        assert "start the kernel again" in absent.problem
        assert "chmod 600" in loose.problem

    with_egress(tmp_path, Access(secrets=sources), doing)


ASKED = (Asked("api.acme.test", paths=["/"]), Asked("api.other.test", paths=["/"]))


def granting(*places: str) -> Access:
    return Access(drivers={"acme": DriverRules(network=places)})


async def reason(end: socket.socket, host: str) -> str:
    """What is said to a request for a host: of one that is granted, that nobody has its name; nothing, if cut off."""
    reader, writer = await dial(end)
    writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    try:
        return (await reader.read()).decode()
    except ConnectionError:
        return ""
    finally:
        writer.close()


async def until_said(end: socket.socket, host: str, words: str) -> None:
    """Ask until the broker has heard of the other rules: what it is told and what it is asked come different ways."""
    while words not in await reason(end, host):
        pass


def test_a_host_that_is_granted_later_leaves_alone_what_goes_on(tmp_path):
    async def doing(egress):
        port = egress.open(manifest(*ASKED))
        await until_said(port.driver_end, "api.other.test", "api.other.test:443 is not granted")
        reader, writer = await dial(port.driver_end)
        egress.adopt(granting("api.acme.test:443", "api.other.test:443"))
        egress.amend(port, manifest(*ASKED))
        await until_said(port.driver_end, "api.other.test", "HTTP/1.1 502 ")
        writer.write(b"GET / HTTP/1.1\r\nhost: api.third.test\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        writer.close()

    with_egress(tmp_path, granting("api.acme.test:443"), doing)


def test_a_host_that_is_not_granted_any_more_ends_what_goes_on(tmp_path):
    async def doing(egress):
        port = egress.open(manifest(*ASKED))
        reader, writer = await dial(port.driver_end)
        egress.adopt(granting("api.other.test:443"))
        egress.amend(port, manifest(*ASKED))
        assert await reader.read() == b""
        writer.close()
        await until_said(port.driver_end, "api.acme.test", "api.acme.test:443 is not granted")
        await until_said(port.driver_end, "api.other.test", "HTTP/1.1 502 ")
        egress.amend(port, manifest(*ASKED), "the profile none has network = false")
        await until_said(port.driver_end, "api.other.test", "the profile none has network = false")

    with_egress(tmp_path, granting("api.acme.test:443", "api.other.test:443"), doing)


def test_a_port_number_that_is_granted_later_takes_a_server_that_may_connect_to_it(tmp_path):
    async def doing(egress):
        listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        place = f"localhost:{listening.sockets[0].getsockname()[1]}"
        asked = Asked("localhost", port=int(place.rpartition(":")[2]), paths=["/"])
        port = egress.open(manifest(asked))
        await until_said(port.driver_end, place, "is not granted")
        rules = DriverRules(network=(place,), addresses=("127.0.0.1/32", "::1/128"))
        egress.adopt(Access(drivers={"acme": rules}))
        egress.amend(port, manifest(asked))
        said = ""
        while not said or "is not granted" in said or "Permission denied" in said:  # the server of before
            said = await reason(port.driver_end, place)
        assert "HTTP/1.1 502 " in said  # it came as far as the handshake, which nobody answers
        listening.close()

    with_egress(tmp_path, Access(), doing)


def test_keys_of_another_source_are_known_at_once(tmp_path):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text("sk-0123456789")

    async def doing(egress):
        (before,) = await egress.secrets()
        assert before.problem
        egress.adopt(Access(secrets={"acme": SecretSource(file=str(key))}))
        (after,) = await egress.secrets()
        assert (after.source, after.problem) == (f"file {key}", "")

    with_egress(tmp_path, Access(secrets={"acme": SecretSource(environment="ACME_NOT_SET")}), doing)


def test_a_port_that_is_closed_hands_out_nothing_and_keeps_nothing(tmp_path):
    async def doing(egress):
        port = egress.open(manifest(*ASKED))
        with port.dial() as stream:
            port.close()
            stream.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(stream, 1) == b""
        with pytest.raises(ConnectionRefusedError):
            port.dial()
        assert not port.waiting

    with_egress(tmp_path, Access(), doing)


def test_descriptors_that_a_driver_sends_to_the_broker_are_refused_from_the_start_where_the_system_can(tmp_path):
    async def doing(egress):
        port = egress.open(manifest(*ASKED))
        with port.dial() as stream:
            for end in (port.driver_end, stream):
                with pytest.raises(PermissionError):
                    socket.send_fds(end, [b"?"], [0])

    one, other = socket.socketpair()
    with one, other:
        try:
            one.getsockopt(socket.SOL_SOCKET, PASS_RIGHTS)
        except OSError:
            pytest.skip("this system has no SO_PASSRIGHTS")
    with_egress(tmp_path, Access(), doing)
