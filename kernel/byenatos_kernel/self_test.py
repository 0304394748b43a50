"""The self-test: one token from a new instance, before a swap counts on it.

That a process lives, has loaded its model and calls itself healthy does not mean that it can answer: a context that
does not fit the memory, a broken template or an engine that is built for another processor show with the first token.
So a short request of the kernel's own must come to its end, with something said, before a swap is ``prepared``.

It is made of models with a file. A driver whose vendor would send a bill for it is spared, unless its manifest says
``[lifecycle] self_test = true``; ``false`` spares any. An instance is tested once.
"""

import asyncio
from typing import Any

from byenatos_kernel.instances import Instance
from byenatos_kernel.link import quoted
from byenatos_sdk.protocol.errors import Unavailable, Unsupported
from byenatos_sdk.protocol.frames import DriverEvent, Start, Stop, encode
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, Sampling, user

__all__ = ["self_test"]

SELF_TEST_S = 60.0
"""How long the token may take: the first one of a large model that is read from a slow disk takes its time."""

_REQUEST = encode(InferenceRequest((user("Hello"),), sampling=Sampling(temperature=0.0, max_tokens=1)))


async def self_test(instance: Instance, number: int) -> None:
    """Have an instance answer a request of one token under ``number``, which is no stream's.

    Raises:
        Unavailable: it cannot; the message says what happened instead.
    """
    if instance.tested or not _wanted(instance):
        return
    assert instance.process is not None
    said = False
    ended: asyncio.Future[Finish | Failure] = asyncio.get_running_loop().create_future()

    def hear(event: DriverEvent) -> None:
        nonlocal said
        if not isinstance(event, Finish | Failure):
            said = True
        elif not ended.done():
            ended.set_result(event)

    instance.listeners[number] = hear
    try:
        instance.send(Start(number), _REQUEST)
        waited: set[asyncio.Future[Any]] = {ended, instance.process.exited}
        await asyncio.wait(waited, timeout=SELF_TEST_S, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise Unavailable(f"{instance.model.id} failed its self-test: {_silence(instance)}")
    finally:
        del instance.listeners[number]
        if not ended.done() and not instance.process.exited.done():
            instance.send(Stop(number))
    wrong = _complaint(ended.result(), said=said)
    if wrong:
        raise Unavailable(f"{instance.model.id} failed its self-test: {wrong}")
    instance.tested = True


def _wanted(instance: Instance) -> bool:
    told = instance.manifest.lifecycle.self_test
    return instance.model.file is not None if told is None else told


def _complaint(end: Finish | Failure, *, said: bool) -> str:
    if isinstance(end, Failure):
        return "" if end.code == Unsupported.code else end.message  # a model that makes vectors says nothing
    if not said and not end.usage.output_tokens:
        return "its answer to a greeting was empty"
    return ""


def _silence(instance: Instance) -> str:
    assert instance.process is not None
    if instance.process.exited.done():
        return f"it {instance.reason}{quoted(instance.last_output[-10:])}"
    return f"its first token did not come within {SELF_TEST_S:g} s"
