"""What one connection may ask of a worker. Figures that an operator may want to change are settings of the plugin."""

from msgspec import Struct

__all__ = ["Limits"]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of requests and connections; times in seconds.

    ``head_bytes`` bounds the request line and the headers together, ``head_count`` how many headers there are,
    ``body_bytes`` the body, and what a compressed one comes to; ``bodies_bytes`` all bodies that the worker holds.

    ``head_s`` is how long a head may take from its first byte, and the first one from the connection's beginning;
    ``body_s`` how long a body may stand still, and how long it may take, with a second more for each
    ``body_bytes_per_s`` bytes that came; ``idle_s`` how long a connection waits for its next request. ``pipelined``
    requests may wait behind the one that is answered. ``stalled_s`` is how long a client may read nothing of what is
    sent to it, ``linger_s`` how long one that was refused may take to notice. When the worker leaves, a connection may
    take ``linger_s`` for its first request, and ``leave_s`` for one more.
    """

    connections: int = 2000
    head_bytes: int = 64 << 10
    head_count: int = 128
    body_bytes: int = 32 << 20
    bodies_bytes: int = 192 << 20
    head_s: float = 20.0
    body_s: float = 30.0
    body_bytes_per_s: float = 4096.0
    idle_s: float = 75.0
    stalled_s: float = 120.0
    pipelined: int = 16
    linger_s: float = 2.0
    leave_s: float = 0.5
