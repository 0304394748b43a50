"""The verifier: a short-lived process that reads plugin folders, checks who signed them, and stores what it checked.

``python -I -m byenatos_kernel.verifier``: an :class:`Order` comes on standard input, a :class:`Report` leaves on
standard output. The kernel starts one when there is something to verify. That keeps the kernel small (``cryptography``
and the parsers of foreign files are never in its memory) and out of reach: it reads nothing but the report, and runs
nothing but what was stored by its digest. Where the machine has Landlock, the verifier can write nothing but the home's
store.

Both ends are in this module: :func:`ask` is the kernel's, :func:`main` the process's.
"""

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from byenatos_kernel.verdicts import Order, Report, Verdict
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable

__all__ = ["ask", "carry_out", "main"]

MAX_MESSAGE = 8 << 20
TIME_S = 60.0
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_LAST_BYTES = 2000

_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(Order).decode
_decode_report = msgspec.msgpack.Decoder(Report).decode


async def ask(order: Order) -> Report:
    """Have a process of its own carry out an order.

    Raises:
        Unavailable: it could not be started, took too long, or ended without a report; the message says why.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-m", "byenatos_kernel.verifier"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise Unavailable(f"the verifier could not be started: {error}") from None
    try:
        async with asyncio.timeout(TIME_S):
            return await _hear(process, _encode(order))
    except TimeoutError:
        raise Unavailable(f"the verifier did not finish within {TIME_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # what is left in the pipes, so that they are closed


async def _hear(process: asyncio.subprocess.Process, order: bytes) -> Report:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(order)
    process.stdin.close()
    readers = [asyncio.ensure_future(_at_most(stream)) for stream in (process.stdout, process.stderr)]
    try:
        said, complained = await asyncio.gather(*readers)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    status = await process.wait()
    if status:
        shown = complained[-_LAST_BYTES:].decode(errors="replace").strip()
        raise Unavailable(f"the verifier ended with status {status}: {shown}")
    try:
        return _decode_report(said)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the verifier's report cannot be read: {error}") from None


async def _at_most(stream: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await stream.read(1 << 16):
        data += chunk
        if len(data) > MAX_MESSAGE:
            raise Unavailable(f"the verifier said more than {MAX_MESSAGE} bytes")
    return bytes(data)


# ---- in the process --------------------------------------------------------------------------------------------


def carry_out(order: Order) -> Report:
    """Verify what is ordered, store what may run, remove what nobody needs."""
    from byenatos_kernel.store import Store
    from byenatos_kernel.verification import read_policy, verify

    home = Home(order.home)
    known = {(plugin, publisher): version for plugin, publisher, version in order.highest}
    folders = [Path(folder) for folder in order.folders]
    try:
        policy = read_policy(home, lambda plugin, publisher: known.get((plugin, publisher)))
    except ByenatosError as error:
        return Report(tuple(Verdict(str(one), one.name, reason=error.message) for one in folders))
    store = Store(home.store)
    verdicts: list[Verdict] = []
    for folder in folders:
        found = verify(folder, policy)
        verdict = found.verdict
        if not verdict.reason:
            try:
                store.ingest(found.payload, found.envelope, found.files)
            except OSError as error:
                reason = f"cannot be stored: {error.filename or home.store}: {error.strerror or error}"
                verdict = msgspec.structs.replace(verdict, reason=reason)
        verdicts.append(verdict)
    notes = [*policy.trust.notes, *policy.trust.expiring(policy.today)]
    try:
        store.sweep({*order.keep, *(one.digest for one in verdicts if not one.reason)})
    except OSError as error:
        notes.append(f"{home.store}: what nobody uses could not be removed: {error}")
    revoked = {**policy.trust.revoked.keys, **policy.trust.revoked.plugins}
    return Report(tuple(verdicts), revoked, tuple(notes))


def main() -> int:
    """Carry out the order on standard input."""
    from byenatos_kernel import operator_key
    from byenatos_sandbox.linux import prctl

    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it works for a kernel, and not without one
    order = _decode_order(sys.stdin.buffer.read(MAX_MESSAGE))
    home = Home(order.home)
    notes: tuple[str, ...] = ()
    if operator_key.is_new(home):
        try:
            pair, signed = operator_key.initialise(home)
            notes = (f"made the operator's key {pair.public.id} and signed {', '.join(signed) or 'nothing'} with it",)
        except (ByenatosError, OSError) as error:
            notes = (f"the shipped plugins could not be signed: {error}; then run: byenatos init",)
    _lock_in(home)
    report = carry_out(order)
    sys.stdout.buffer.write(_encode(msgspec.structs.replace(report, notes=(*notes, *report.notes))))
    sys.stdout.buffer.flush()
    return 0


def _lock_in(home: Home) -> None:
    """From here on this process reads files and writes the store; it can do neither more nor in another's name."""
    from byenatos_sandbox.landlock import READ, READ_WRITE, Rule, abi, restrict
    from byenatos_sandbox.linux import prctl

    if abi():
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        restrict([Rule("/", READ), Rule(str(home.store), READ_WRITE)])


if __name__ == "__main__":
    sys.exit(main())
