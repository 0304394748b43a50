"""What a stream's client is told when nothing comes for a while, and when nothing more will: in every format.

The front's answering runs in the test's process, against a real kernel. What it writes is read by each format's own
decoder; that the vendors' clients read it in the same way is seen in ``tests/sdk/formats``.
"""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from kernel_process import CEILING_S, until_ready

from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, Message, Text, TextDelta

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins" / "http"))

from http_front import pieces as front_pieces
from http_front.answering import Answering
from http_front.exchange import Request

MODELS = {
    "failing": {"tokens": 9, "rate": 100, "fault": "raise", "fault_after": 3},
    "slow": {"tokens": 3, "rate": 5},
    "refuge": {"tokens": 9},
}
WHOLE = "0 1 2 3 4 5 6 7 8 "
SAY_NOTHING = {"ollama"}
"""Formats whose clients take every byte for a part of the answer."""
TERMINALS = (b"[DONE]", b"message_stop", b"response.completed", b'"done":true', b'"stop":true', b'"is_end":true')

layer = CompatibilityLayer()


@asynccontextmanager
async def answers(start_kernel, **config):
    """Ask a model for a stream in a format; return the pieces that the front sends."""
    kernel = start_kernel(models=MODELS, slots={name: name for name in MODELS}, **config)
    async with kernel.client() as client:
        await until_ready(client, *MODELS)
        front = Answering(client)

        async def ask(name, model):
            spoken = layer.format(name)
            asked = InferenceRequest((Message("user", (Text("Count"),)),), model=model, timeout_s=CEILING_S)
            wire = spoken.encode_request(asked, stream=True).wire
            request = Request("POST", f"/v1beta/{wire.path.lstrip('/')}", dict(wire.headers), wire.body)
            request.headers["x-byenatos-slot"] = model
            answer = await front.answer(request, spoken, prefix="")
            return [piece async for piece in answer.pieces]

        yield ask


async def in_every_format(ask, model):
    return zip(MATRIX, await asyncio.gather(*(ask(name, model) for name in MATRIX)), strict=True)


def decoded(name, pieces):
    decoder = layer.format(name).stream_decoder()
    return [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.end()


async def test_a_stream_that_breaks_off_says_so_in_every_format_and_never_ends_well(start_kernel):
    async with answers(start_kernel) as ask:
        for name, pieces in await in_every_format(ask, "failing"):
            deltas = decoded(name, pieces)
            assert "".join(one.text for one in deltas if isinstance(one, TextDelta)) == "0 1 2 ", name
            assert isinstance(deltas[-1], Failure), name
            assert deltas[-1].partial, name
            assert not any(isinstance(one, Finish) for one in deltas), name
            assert not any(mark in b"".join(pieces) for mark in TERMINALS), name


async def test_a_stream_that_goes_on_at_the_fallback_is_one_whole_answer_in_every_format(start_kernel):
    async with answers(start_kernel, fallback="refuge") as ask:
        for name, pieces in await in_every_format(ask, "failing"):
            deltas = decoded(name, pieces)
            assert "".join(one.text for one in deltas if isinstance(one, TextDelta)) == WHOLE, name
            assert isinstance(deltas[-1], Finish), name


async def test_while_nothing_comes_each_format_says_what_its_clients_pass_over(start_kernel, monkeypatch):
    monkeypatch.setattr(front_pieces, "FIRST_S", 0.01)
    monkeypatch.setattr(front_pieces, "KEEP_ALIVE_S", 0.01)
    async with answers(start_kernel) as ask:
        for name, pieces in await in_every_format(ask, "slow"):
            deltas = decoded(name, pieces)
            assert "".join(one.text for one in deltas if isinstance(one, TextDelta)) == "0 1 2 ", name
            assert isinstance(deltas[-1], Finish), name
            kept = [piece for piece in pieces if not decoded_alone(name, piece)]
            assert len(kept) > 3, name
            assert (b"".join(kept) == b"") == (name in SAY_NOTHING), name


def decoded_alone(name, piece):
    """Return what a piece says by itself."""
    return layer.format(name).stream_decoder().feed(piece)
