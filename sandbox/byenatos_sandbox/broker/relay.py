"""One request of a driver, from the check to the audit line.

A short request, which is nearly every one, is sent in one write. A longer one goes up in a task of its own while the
answer is awaited, because a vendor may answer before it has taken everything in.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from byenatos_sandbox.broker.audit import Entry
from byenatos_sandbox.broker.bodies import CHUNKED
from byenatos_sandbox.broker.framing import Request
from byenatos_sandbox.broker.keys import Header, forwarded, inject, own_query
from byenatos_sandbox.broker.messages import Rule
from byenatos_sandbox.broker.policy import DEFAULT_PORTS, match
from byenatos_sandbox.broker.redact import Redactor
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.upstream import Exchange, Head, Order, UpstreamError

if TYPE_CHECKING:
    from byenatos_sandbox.broker.line import Line

__all__ = ["MAX_SIGNED", "Relay"]

AT_ONCE = 64 << 10
MAX_SIGNED = 4 << 20
"""A body that the key signs is kept whole until it is sent: it may be this long."""

_NOT_PASSED_BACK: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade alt-svc content-encoding x-byenatos-egress".split()
)


class Relay:
    """Takes one request through. Whatever happens, one line of the audit says what."""

    def __init__(self, line: "Line", request: Request) -> None:
        self._line = line
        self._port = line.port
        self._request = request
        self._method = request.method.decode("ascii")
        host = next((value for name, value in request.headers if name == b"host"), b"")
        self._host = host
        path = request.target.partition(b"?")[0]
        self._entry = Entry(self._port.driver, self._method, host.decode("latin-1"), path.decode("latin-1"))

    async def run(self) -> None:
        """Relay the request, or refuse it."""
        line, entry = self._line, self._entry
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await self._relay()
        except Refused as refused:
            entry.refused = refused.reason
            await self._answer(refused)
        except UpstreamError as error:
            entry.failed = str(error)
            await self._answer(Refused(502, f"{entry.host}: {error}"))
        except ConnectionError:
            entry.failed = line.gone or "the driver left"
            raise
        except asyncio.CancelledError:
            entry.failed = line.gone or "the broker stopped"
            raise
        except Exception as error:
            entry.failed = f"a fault of the broker: {type(error).__name__}"
            line.wire.abort()
            raise
        finally:
            entry.duration_ms = round((loop.time() - begun) * 1000, 3)
            self._port.audit.write(entry)

    async def _answer(self, refused: Refused) -> None:
        """Tell the driver, if nothing was told yet; else break off, so that half an answer is not taken for a whole."""
        if self._line.answering:
            self._line.flush()  # what came before the break belongs to the driver
            self._line.wire.abort()
            return
        self._entry.status = refused.status
        await self._line.refuse(refused)

    async def _relay(self) -> None:
        rule = match(self._port.rules, self._method, self._host, self._request.target)
        if self._request.length > rule.max_request_mib << 20:
            raise Refused(413, f"the request is larger than {rule.max_request_mib} MiB (max_request_mib)")
        headers = forwarded(self._request.headers, rule.key)
        target = own_query(self._request.target, rule.key)
        if rule.key is not None and rule.key.scheme:
            async with self._port.signing:
                await self._sign(rule, target, headers)
            return
        # a short body may come just after its head: with it, it is one write
        body = await self._whole(AT_ONCE) if 0 <= self._request.length <= AT_ONCE else None
        if rule.key is not None:
            value = await self._port.vault.key(rule.key.secret)
            target, headers = inject(rule, value, self._method, target, headers, b"")
        await self._exchange(rule, target, headers, body)

    async def _sign(self, rule: Rule, target: bytes, headers: list[Header]) -> None:
        """Take the whole request in, for the key to sign."""
        assert rule.key is not None
        most = min(rule.max_request_mib << 20, MAX_SIGNED)
        with self._port.room.hold(most if self._request.length == CHUNKED else min(self._request.length, most)):
            body = await self._whole(most)
            await self._send_signed(rule, target, headers, body)

    async def _send_signed(self, rule: Rule, target: bytes, headers: list[Header], body: bytes) -> None:
        assert rule.key is not None
        value = await self._port.vault.key(rule.key.secret)
        headers = [one for one in headers if one[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        target, headers = inject(rule, value, self._method, target, headers, body)
        await self._exchange(rule, target, headers, body)

    async def _exchange(self, rule: Rule, target: bytes, headers: list[Header], body: bytes | None) -> None:
        """Send the request, its body if that is whole already, and pass the answer back."""
        redactor = self._port.redactor()
        upstream = await self._port.pool.get(rule)
        authority = rule.host if rule.port == DEFAULT_PORTS[rule.scheme] else f"{rule.host}:{rule.port}"
        if self._request.length == CHUNKED and body is None and not upstream.multiplexed:
            headers.append((b"transfer-encoding", b"chunked"))
        exchange = upstream.begin(Order(self._request.method, target, authority.encode(), headers))
        try:
            if body is not None:
                exchange.send(body)
                exchange.finish()
                self._entry.bytes_up = len(body)
                whole = True
            else:
                whole = self._send_ready(exchange, rule)
            await exchange.flush()
            if whole:
                await self._pass_back(exchange, await exchange.head(), rule, redactor)
            else:
                await self._both_ways(exchange, rule, redactor)
        finally:
            exchange.release()

    # ---- up ----------------------------------------------------------------------------------------------------

    async def _whole(self, most: int) -> bytes:
        """Take the whole body in."""
        body = bytearray()
        while (data := self._line.take()) is not None:
            if not data:
                await self._line.more()
            body += data
            if len(body) > most:
                raise Refused(413, f"the request is larger than {most >> 20} MiB, and its key signs it whole")
        return bytes(body)

    def _send_ready(self, exchange: Exchange, rule: Rule) -> bool:
        """Queue what is here of a long body; whether that was all of it."""
        while self._entry.bytes_up < AT_ONCE and (data := self._line.take()) != b"":
            if data is None:
                exchange.finish()
                return True
            self._send(exchange, data, rule)
        return False

    def _send(self, exchange: Exchange, data: bytes, rule: Rule) -> None:
        self._entry.bytes_up += len(data)
        if self._entry.bytes_up > rule.max_request_mib << 20:
            raise Refused(413, f"the request is larger than {rule.max_request_mib} MiB (max_request_mib)")
        exchange.send(data)

    async def _upload(self, exchange: Exchange, rule: Rule) -> None:
        while (data := self._line.take()) is not None:
            if data:
                self._send(exchange, data, rule)
                await exchange.flush()
            else:
                await self._line.more()
        exchange.finish()
        await exchange.flush()

    async def _both_ways(self, exchange: Exchange, rule: Rule, redactor: Redactor) -> None:
        """Go on sending while the answer is awaited and passed back."""
        upload = asyncio.ensure_future(self._upload(exchange, rule))
        answer = asyncio.ensure_future(exchange.head())
        try:
            await asyncio.wait({upload, answer}, return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and not isinstance(upload.exception(), UpstreamError | None):
                raise upload.exception() or AssertionError
            # a vendor that stops reading may still have said why: that is what counts
            await self._pass_back(exchange, await answer, rule, redactor)
        finally:
            for task in (upload, answer):
                task.cancel()
            await asyncio.gather(upload, answer, return_exceptions=True)
        if not self._line.whole:
            await self._line.discard()

    # ---- down --------------------------------------------------------------------------------------------------

    async def _pass_back(self, exchange: Exchange, head: Head, rule: Rule, redactor: Redactor) -> None:
        for name, value in head.headers:
            if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
                raise UpstreamError("the vendor compressed its answer although it was asked not to")
        self._line.begin(head.status, _passed_back(head.headers, redactor))
        self._entry.status = head.status
        redaction = redactor.stream()
        most = rule.max_response_mib << 20
        over = False

        def pass_on() -> bool:
            """Pass on what is here, as long as the driver keeps up; whether it does, and there is more to come."""
            nonlocal over
            while not self._line.wire.full:
                data = exchange.take()
                if not data:
                    over = data is None
                    break
                self._entry.bytes_down += len(data)
                if self._entry.bytes_down > most:
                    raise UpstreamError(f"the answer is larger than {rule.max_response_mib} MiB (max_response_mib)")
                self._line.send(redaction.feed(data))
            else:
                return False
            if not over:
                self._line.flush()
            return not over

        while True:
            if pass_on():
                await exchange.more(pass_on)
            if over:
                break
            await self._line.wire.drain()
        if rest := redaction.end():
            self._line.send(rest)
        await self._line.finish()


def _passed_back(headers: list[Header], redactor: Redactor) -> list[Header]:
    drop = set(_NOT_PASSED_BACK)
    for name, value in headers:
        if name == b"connection":
            drop |= {one.strip().lower() for one in value.split(b",")}
    drop.discard(b"content-length")
    return [(redactor.whole(name), redactor.whole(value)) for name, value in headers if name not in drop]
