"""Where streams are, against a driver that does not read."""

import socket

from byenatos_kernel.channel import URGENT_BYTES, Channel
from byenatos_kernel.clients import ClientState
from byenatos_kernel.link import DriverLink
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.places import Places
from byenatos_kernel.streams import Stream
from byenatos_sandbox import Grant


class Deaf(DriverLink):
    """A link whose driver never reads; notes what would kill it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.grant = Grant("deaf/model")
        self.streams: dict[int, Stream] = {}
        self.epoch = 1
        self.model = ModelEntry("model", "deaf")
        self.killed = ""

    def fail(self, reason: str) -> None:
        self.killed = self.killed or reason


class Drivers:
    units = ()

    def stream_ended(self, instance) -> None:
        pass


async def test_requests_that_a_full_driver_refuses_and_cancels_of_the_others_do_not_kill_it():
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours, lambda _: None, lambda _: None)
        deaf = Deaf(channel)
        places = Places(Drivers(), None)
        refused: list[Stream] = []
        places.fail = lambda stream, _: refused.append(stream)
        client = ClientState("uid:0", 0)
        started: list[Stream] = []
        for size in (30 << 20, 30 << 20, *[1 << 20] * 8, *[60_000] * 100, *[500] * 1000):
            stream = Stream(client, len(started), "default")
            stream.body = bytes(size)
            places.start(stream, deaf)
            started.append(stream)
        assert refused
        assert not set(refused) & set(deaf.streams.values())
        for stream in started:
            if stream not in refused:
                places.detach(stream)
        assert not deaf.streams
        assert not deaf.killed
        assert channel.buffered < (64 << 20) + URGENT_BYTES
        channel.close()
