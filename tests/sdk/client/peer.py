"""A scripted kernel: a real ROUTER that speaks the wire and does what a test says; ``peer.py HOME`` runs one."""

import errno
import sys
import threading
from collections import defaultdict

import zmq

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.frames import Hello, Open, Welcome, decode_client_header, encode
from byenatos_sdk.protocol.messages import TextDelta
from byenatos_sdk.protocol.versions import FEATURES

CEILING_S = 30
"""How long an event may take before a test gives up; no test waits for it to pass."""


def welcome(peer, header, body):
    """The script of a kernel that greets and says nothing more."""
    if isinstance(header, Hello):
        peer.say((0, Welcome(1, tuple(sorted(FEATURES)), 0.1, "scripted")))


class Peer:
    """Serves in a thread. ``script(peer, header, body)`` is called there for every message."""

    def __init__(self, home, script=welcome):
        self.home = home
        self.home.create()
        self.script = script
        self.received = []
        self._arrived = threading.Condition()
        self._stopping = False
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.ROUTER_MANDATORY, 1)
        self._router.set(zmq.LINGER, 1000)
        self._router.bind(home.endpoint)
        self._inside = self._context.socket(zmq.PAIR)
        self._inside.bind("inproc://say")
        self._outside = self._context.socket(zmq.PAIR)
        self._outside.connect("inproc://say")
        self._client = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def say(self, *events):
        """Send one frame of ``(id, event)`` pairs to the client that spoke last; from any one thread."""
        self.say_bytes(encode(list(events)))

    def say_bytes(self, frame):
        if threading.current_thread() is self._thread:
            self._send(frame)
        else:
            self._outside.send(frame)

    def headers(self, kind):
        with self._arrived:
            return [header for header, _ in self.received if isinstance(header, kind)]

    def bodies(self, kind):
        with self._arrived:
            return [body for header, body in self.received if isinstance(header, kind)]

    def wait_for(self, kind, count=1):
        """Wait until ``count`` headers of ``kind`` have come and return them."""
        with self._arrived:
            found = self._arrived.wait_for(
                lambda: sum(isinstance(h, kind) for h, _ in self.received) >= count, CEILING_S
            )
            kinds = defaultdict(int)
            for header, _ in self.received:
                kinds[type(header).__name__] += 1
        assert found, f"expected {count} {kind.__name__}, found {dict(kinds)}"
        return self.headers(kind)

    def stop(self):
        """Close the socket, as a kernel that ends does."""
        if not self._stopping:
            self._stopping = True
            self._outside.send(b"")
            self._thread.join(CEILING_S)
            assert not self._thread.is_alive()
            self._outside.close(0)
            self._context.term()

    def _send(self, frame):
        try:
            self._router.send_multipart([self._client, frame])
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:  # the client has hung up, as clients do
                raise

    def _serve(self):
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._inside, zmq.POLLIN)
        serving = True
        while serving:
            for socket, _ in poller.poll():
                if socket is self._inside:
                    frame = self._inside.recv()
                    if frame:
                        self._send(frame)
                    else:
                        serving = False
                    continue
                self._client, header, body = self._router.recv_multipart()
                header = decode_client_header(header)
                with self._arrived:
                    self.received.append((header, body))
                    self._arrived.notify_all()
                self.script(self, header, body)
        self._router.close()
        self._inside.close(0)


def endless(peer, header, body):
    """The script of the program: one delta for each stream, no end; calls are never answered."""
    welcome(peer, header, body)
    if isinstance(header, Open):
        peer.say((header.id, TextDelta("begun ")))


if __name__ == "__main__":
    Peer(Home(sys.argv[1]), endless)
    print("serving", flush=True)
    sys.stdin.read()
