"""The kernel's events as server-sent ones, and what every stream of the management API has in common."""

import asyncio
from collections.abc import AsyncIterator

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import json_body
from byenatos_sdk.protocol.errors import ByenatosError
from http_front.operations import Errors

__all__ = ["COMMENT", "KEEP_ALIVE_S", "UNBUFFERED", "failed", "happenings"]

KEEP_ALIVE_S = 15.0
COMMENT = b":\n\n"
UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def happenings(kernel: AsyncClient) -> AsyncIterator[bytes]:
    """Yield what happens from now on, without end."""
    async with kernel.events() as events:
        yield COMMENT  # whoever has read it misses nothing from then on
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    happened = await anext(events)
            except TimeoutError:
                yield COMMENT
            except StopAsyncIteration:
                return
            except ByenatosError as error:
                yield failed(error)
                return
            else:
                yield event(json_body(happened), str(happened.__struct_config__.tag))


def failed(error: ByenatosError) -> bytes:
    """Write what a stream failed with, its last event."""
    return event(Errors().encode_error(error).body, "error")
