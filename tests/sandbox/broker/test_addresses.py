"""Which addresses are connected to, and that no name server talks the broker into another."""

import ipaddress

import pytest
from broker_rig import Broker, rule
from hypothesis import given
from hypothesis import strategies as st
from vendor import HOST, Vendor

from byenatos_sandbox.broker.addresses import judge

NOT_PUBLIC = [
    *(
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.8.8.8",
    ),
    *(
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
    ),
    *(
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
    ),
    *(
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::a9fe:a9fe",
    ),
    *(
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
    ),
    *(
        "2002:808:808::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
    ),
    *(
        "fec0::1",
        "ff02::1",
        "4000::1",
        "2a00::5efe:7f00:1",
        "2a00::200:5efe:a9fe:a9fe",
    ),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(address):
    assert judge(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "2a00:1450:4001::1"])
def test_a_public_address_is_taken(address):
    assert judge(address) == ""


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "0x7f000001", "2130706433", "127.1", "1.2.3.4/32"])
def test_what_is_no_address_is_refused(text):
    assert judge(text)


def test_a_granted_network_is_taken_and_no_other():
    granted = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/64")]
    assert judge("10.1.2.3", granted) == judge("fd00::1", granted) == ""
    assert judge("10.2.0.1", granted)
    assert judge("::ffff:10.1.2.3", granted)
    assert judge("fd00::1%eth0", granted)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_that_python_calls_private_is_taken(address):
    if not address.is_global or address.is_multicast:
        assert judge(str(address))


@given(st.ip_addresses(v=6))
def test_only_global_unicast_of_ipv6_is_taken(address):
    if not judge(str(address)):
        assert address.is_global
        assert address in ipaddress.ip_network("2000::/3")


@given(st.text(max_size=60))
def test_any_text_is_judged(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert judge(text)
    else:
        assert judge(text) == judge(str(ipaddress.ip_address(text)))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "10.0.0.1"])
async def test_a_hostile_answer_of_a_name_server_is_refused_and_audited(tmp_path, address):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor), names={HOST: [address]}, addresses=()) as broker:
        answer = await broker.get()
        assert (answer.status, answer.refused) == (403, True)
        assert address in answer.reason
        assert address in (await broker.audited())[0]["refused"]
        assert vendor.connections == 0


async def test_a_name_is_looked_up_once_per_connection_and_that_answer_is_connected_to(tmp_path):
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.3"]])
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor), names={HOST: lambda: next(answers)}) as broker:
        assert (await broker.get()).status == 200
        assert broker.looked_up == [HOST]


async def test_of_several_addresses_only_those_that_may_be_are_tried(tmp_path):
    names = {HOST: ["169.254.169.254", "10.0.0.1", "127.0.0.1"]}
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor), names=names) as broker:
        assert (await broker.get()).status == 200


async def test_a_name_that_is_not_known_and_a_host_that_does_not_listen_are_said(tmp_path):
    vendor = Vendor()
    async with vendor:
        pass
    async with Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get()
        assert answer.status == 502
        assert "cannot be reached" in answer.reason
        broker.names.clear()
        assert "cannot be looked up" in (await broker.get()).reason
