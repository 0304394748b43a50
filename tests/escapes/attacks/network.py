"""Reaching anybody by any kind of socket."""

import array
import contextlib
import ctypes
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path

from attacks.registry import Stopped, attack, call

_MULTIPATH_TCP, _SCTP = 262, 132
_OFTEN = 1000


@attack("seccomp", "namespaces", "landlock")
def connects_by_tcp(prey):
    return socket.create_connection(("127.0.0.1", prey["port"]))


@attack("seccomp", "namespaces", "landlock", needs="a machine with IPv6")
def connects_by_tcp_over_version_6(prey):
    return socket.create_connection(("::1", prey["port6"]))


@attack("seccomp", "namespaces", needs="a system with multipath TCP")
def connects_by_multipath_tcp(prey):
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MULTIPATH_TCP)
    return one.connect(("127.0.0.1", prey["port"]))


@attack("seccomp", "namespaces", needs="a system whose clients may use TCP Fast Open")  # not by Landlock
def sends_with_the_first_word_of_tcp(prey):
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return one.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", prey["port"]))


@attack("seccomp", needs="a system whose clients may use TCP Fast Open")
def connects_by_a_socket_that_it_was_handed_to_listen(prey):
    # neither is it made here, nor does it belong to the network of a sandbox
    one = _handed_over()
    one.shutdown(socket.SHUT_RDWR)
    return one.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", prey["port"]))


@attack("seccomp", "landlock")
def connects_a_socket_that_it_was_handed_to_listen(prey):
    one = _handed_over()
    one.shutdown(socket.SHUT_RDWR)
    return one.connect(("127.0.0.1", prey["port"]))


@attack("seccomp", "landlock")
def listens_by_tcp(prey):
    return socket.create_server(("127.0.0.1", 0))


@attack("seccomp", "namespaces")
def sends_by_udp(prey):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.sendto(b"x", ("127.0.0.1", prey["udp"]))


@attack("seccomp", "namespaces")
def asks_a_name_server(prey):
    question = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\x06secret\x07example\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", prey["udp"]))
        return one.send(question)


@attack("private root", "landlock")
def looks_up_the_name_of_this_machine(prey):
    if not any(part in {"localhost", prey["hostname"]} for part in Path("/etc/hosts").read_text().split()):
        raise Stopped("no names")
    return socket.getaddrinfo("localhost", 80)


@attack("seccomp", "process", needs="it takes CAP_NET_RAW, which no driver's process has")
def speaks_raw_to_the_network(prey):
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@attack("seccomp", needs="a group whose members may ping (net.ipv4.ping_group_range)")
def pings(prey):
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)


@attack("seccomp", "process", needs="it takes CAP_NET_RAW, which no driver's process has")
def listens_to_every_packet(prey):
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)


@attack("seccomp", "private root")
def connects_to_a_socket_file(prey):
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect(prey["socket"])


@attack("seccomp", "private root")
def sends_to_a_socket_file(prey):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        return one.sendto(b"x", prey["datagrams"])


@attack("seccomp", "namespaces", "landlock")
def connects_to_an_abstract_socket(prey):
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect("\0" + prey["abstract"])


@attack("seccomp", "private root")
def connects_to_a_socket_file_named_as_long_as_the_brokers(prey):
    return _reach(socket.socket(socket.AF_UNIX), prey["short_socket"])


@attack("seccomp", "namespaces", "landlock")
def connects_to_an_abstract_socket_named_as_long_as_the_brokers(prey):
    return _reach(socket.socket(socket.AF_UNIX), "\0" + prey["short_abstract"])


@attack("seccomp", "private root")
def connects_to_another_address_than_it_shows(prey):
    """A filter that looked at addresses could be shown another one than the system reads."""
    theirs = struct.pack("=H", socket.AF_UNIX) + prey["short_socket"].encode() + b"\0"
    address = ctypes.create_string_buffer(len(theirs))
    decoy = struct.pack("=H", socket.AF_UNIX) + b"/run/egress.sock\0"
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            address[:] = decoy
            address[:] = theirs

    with contextlib.ExitStack() as leaving:
        leaving.callback(over.set)
        threading.Thread(target=change, daemon=True).start()
        for _ in range(60):
            one = leaving.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.suppress(OSError):
                call("connect", one.fileno(), address, len(theirs))
                if one.getpeername() == prey["short_socket"]:
                    return "reached"
            one.close()
    return _nothing()


@attack("seccomp", "private root")
def connects_a_pair_anew(prey):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return _reach(one, prey["short_datagrams"])


@attack("seccomp")
def asks_for_more_sockets_than_anybody_needs(prey):
    for _ in range(300):
        socket.socket(socket.AF_UNIX).close()
        if time.monotonic() > prey["began"] + 1.5:
            return _nothing()
    return "they come without end"


@attack("seccomp")
def asks_for_sockets_and_takes_it_back(prey):
    # whoever answers must not have to remember what was asked and given up, nor hear of it a thousand times a second
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    asked, until = 0, time.monotonic() + 1.5
    while asked < _OFTEN and time.monotonic() < until:
        asked += 1
        with contextlib.suppress(InterruptedError):
            socket.socket(socket.AF_UNIX).close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    if asked < _OFTEN:
        raise Stopped(f"heard {asked} times")
    return asked


@attack("seccomp", "private root")
def sends_to_a_socket_file_through_a_pair(prey):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"x", prey["datagrams"])


@attack("seccomp", "private root")
def connects_an_end_of_a_pair_to_a_socket_file(prey):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.connect(prey["datagrams"])


@attack("seccomp")
def listens_on_an_abstract_socket(prey):
    one = socket.socket(socket.AF_UNIX)
    one.bind(f"\0byenatos-attack-{os.getpid()}")
    return one.listen()


@attack("seccomp", "landlock")
def listens_on_a_socket_file(prey):
    one = socket.socket(socket.AF_UNIX)
    one.bind("mine")
    return one.listen()


@attack("channel", needs="a system before Linux 6.16 cannot refuse them; the control's other end does not")
def sends_a_descriptor_along(prey):
    one = socket.socket(fileno=os.dup(prey["wire"]))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
    return one.sendmsg([b"\n"], rights) and "sent"


@attack("seccomp")
def talks_netlink(prey):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@attack("seccomp")
def hears_what_happens_to_devices(prey):
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)  # NETLINK_KOBJECT_UEVENT
    return one.bind((0, 1))


@attack("seccomp")
def lists_the_cards_of_the_network(prey):
    names = [name for _, name in socket.if_nameindex()]
    return names or _nothing()


@attack("private root", "landlock")
def reads_who_is_connected(prey):
    return Path("/proc/net/tcp").read_text()[:20]


@attack("seccomp", needs="a virtual machine, or a system with the module")
def opens_a_vsock(prey):
    return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)


@attack("seccomp", needs="a system with the module")
def asks_the_system_to_encrypt(prey):
    return socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)


@attack("seccomp", needs="a system with the module")
def opens_a_socket_of_an_odd_family(prey):
    for family in (3, 5, 9, 15, 21, 29, 30, 31, 35, 37, 39, 41, 42, 43, 44):  # from AX.25 over CAN and TIPC to XDP
        for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            with contextlib.suppress(OSError):
                return socket.socket(family, kind)
    return _nothing()


@attack("seccomp", needs="a system with the module")
def speaks_sctp(prey):
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, _SCTP)


@attack("seccomp", needs="a system with the module")
def makes_a_pair_of_another_family(prey):
    pair = (ctypes.c_int * 2)()
    return call("socketpair", int(socket.AF_TIPC), int(socket.SOCK_SEQPACKET), 0, pair)


def _handed_over() -> socket.socket:
    """A socket that listens by TCP: the one that was handed over, where it is."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            one = socket.socket(fileno=os.dup(number))
            if one.family == socket.AF_INET and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return one
            one.close()
    return socket.create_server(("127.0.0.1", 0))


def _reach(one: socket.socket, address: str) -> str:
    """Connect, and find out whether that led to where it was to lead."""
    one.connect(address)
    found = one.getpeername()
    if found != (address if address[0] != "\0" else address.encode()):
        raise Stopped(f"it leads to {found!r}")
    return "reached"


def _nothing() -> object:
    raise Stopped("none")
