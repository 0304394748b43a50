"""The kernel's calls of a driver's methods, each waiting for its reply.

Calls have the negative numbers, streams the positive ones. What the replies of one driver hold together while they come
in pieces is bounded like one reply.
"""

import asyncio
from collections.abc import Callable

import msgspec

from byenatos_kernel.hearsay import bounded_failure
from byenatos_sdk.protocol.errors import ByenatosError, DriverCrashed, Overloaded, Unavailable, error_from_code
from byenatos_sdk.protocol.frames import MAX_REPLY, DriverCall, DriverHeader, Reply, Stop, encode
from byenatos_sdk.protocol.messages import Failure

__all__ = ["LinkCalls"]


class LinkCalls:
    """The calls of one driver, ``name``, over ``send``; ``condemn`` is told why it must go."""

    def __init__(self, name: str, send: Callable[[DriverHeader, bytes], None], condemn: Callable[[str], None]) -> None:
        self._name = name
        self._send = send
        self._condemn = condemn
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._pieces: dict[int, bytearray] = {}
        self._next = -1
        self._over = False
        self._loop = asyncio.get_running_loop()

    async def make(
        self, method: str, params: msgspec.Struct | bytes | None, timeout_s: float | None, most: int
    ) -> bytes:
        """Call a method and return the reply's body, of at most ``most`` bytes.

        A call that is not waited for any longer is stopped.

        Raises:
            DriverCrashed: there was no answer in time.
            Unavailable: the answer is longer.
            ByenatosError: the driver's own.
        """
        number = self._next
        self._next -= 1
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = future
        try:
            body = params if isinstance(params, bytes) else encode(params) if params is not None else b""
            self._send(DriverCall(number, method), body)
            reply = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            self._stop(number)
            raise DriverCrashed(f"{self._name} did not answer {method!r} within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            self._stop(number)
            raise
        finally:
            self._waiting.pop(number, None)
            self._pieces.pop(number, None)
        if len(reply) > most:
            raise Unavailable(f"{self._name} answered {method!r} with {len(reply)} bytes, of {most} that it may have")
        return reply

    def answered(self, number: int, event: Reply | Failure) -> None:
        """Take what the driver says to a call; to one that nobody waits for, it says nothing."""
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if isinstance(event, Failure):
            said = bounded_failure(event)
            future.set_exception(error_from_code(said.code, said.message, retry_after_s=said.retry_after_s))
        else:
            self._replied(number, event, future)

    def fail(self, error: ByenatosError) -> None:
        """The process is gone: no call will be answered any more."""
        self._over = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def _replied(self, number: int, reply: Reply, future: "asyncio.Future[bytes]") -> None:
        """Take a reply, or a piece of a long one."""
        if not reply.more and number not in self._pieces:
            future.set_result(reply.body)
            return
        pieces = self._pieces.setdefault(number, bytearray())
        pieces += reply.body
        if sum(map(len, self._pieces.values())) > MAX_REPLY + len(reply.body):
            self._condemn(f"sent replies of more than {MAX_REPLY >> 20} MiB")
        elif not reply.more:
            future.set_result(bytes(pieces))

    def _stop(self, number: int) -> None:
        if not self._over:
            try:
                self._send(Stop(number), b"")
            except Overloaded:
                self._condemn("does not read its channel: not even a stop could be delivered")
