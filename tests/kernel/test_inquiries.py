"""Embeddings, token counts and vendors' lists on their way to a driver and back, with a driver that the test plays."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from byenatos_kernel.inquiries import Inquiries
from byenatos_sdk.protocol.control import Named
from byenatos_sdk.protocol.errors import (
    DeadlineExceeded,
    DriverCrashed,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
    Unsupported,
)
from byenatos_sdk.protocol.frames import MAX_REPLY, Reply, encode
from byenatos_sdk.protocol.messages import (
    DetokenizeRequest,
    EmbeddingRequest,
    Failure,
    InferenceRequest,
    TokenizeRequest,
    user,
)


@pytest.fixture
def asking(rig):
    """Run a kernel and hand out the inquiries with the driver of slot main, which answers nothing by itself."""

    @asynccontextmanager
    async def run():
        async with rig() as kernel:
            await kernel.settle()
            kernel.driver("a").obedient = False
            yield Asking(kernel)

    return run()


class Asking:
    def __init__(self, kernel):
        self.kernel = kernel
        self.driver = kernel.driver("a")
        self.inquiries = Inquiries(kernel.routes, kernel.turns.sessions)

    async def begin(self, method, parameters):
        task = asyncio.create_task(self.inquiries.ask(method, encode(parameters)))
        await self.kernel.settle()
        return task


async def test_an_inquiry_goes_to_the_slots_driver_and_the_answer_comes_back_unread(asking):
    async with asking as one:
        body = EmbeddingRequest(("a", "b"), "main")
        task = await one.begin("embed", body)
        ((number, method, sent),) = one.driver.calls
        assert (method, sent) == ("embed", encode(body))
        one.driver.tell(number, Reply(b"vec", more=True), Reply(b"to", more=True), Reply(b"rs"))
        assert await task == b"vectors"
        task = await one.begin("vendor_models", Named("a"))
        assert one.driver.calls[-1][1:] == ("models", b"")
        one.driver.tell(one.driver.calls[-1][0], Reply(b"list"))
        assert await task == b"list"


@pytest.mark.parametrize(
    ("method", "order"),
    [("tokenize", TokenizeRequest("a text", "main")), ("detokenize", DetokenizeRequest((1, 2), "main"))],
)
async def test_tokens_are_asked_of_the_driver(asking, method, order):
    async with asking as one:
        task = await one.begin(method, order)
        number, called, body = one.driver.calls[-1]
        assert (called, body) == (method, encode(order))
        one.driver.tell(number, Reply(b"tokens"))
        assert await task == b"tokens"


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(Failure("unsupported", "no"), Unsupported), (Failure("rate_limited", "slowly", 2.5), RateLimited)],
)
async def test_what_the_driver_says_is_raised(asking, failure, kind):
    async with asking as one:
        task = await one.begin("embed", EmbeddingRequest(("a",), "main"))
        one.driver.tell(one.driver.calls[-1][0], failure)
        with pytest.raises(kind) as caught:
            await task
        assert caught.value.retry_after_s == failure.retry_after_s


async def test_a_client_that_does_not_wait_stops_the_call_at_the_driver(asking):
    async with asking as one:
        task = await one.begin("embed", EmbeddingRequest(("a",), "main"))
        task.cancel()
        await one.kernel.settle()
        assert one.driver.stopped_calls == [one.driver.calls[-1][0]]


async def test_a_time_limit_ends_it(asking):
    async with asking as one:
        task = await one.begin("count_tokens", InferenceRequest((user("a"),), model="main", timeout_s=0.001))
        with pytest.raises(DeadlineExceeded, match=r"within 0\.001 s"):
            await task
        await one.kernel.settle()
        assert one.driver.stopped_calls


async def test_a_dead_driver_is_told(asking):
    async with asking as one:
        task = await one.begin("embed", EmbeddingRequest(("a",), "main"))
        one.driver.exit()
        with pytest.raises(DriverCrashed):
            await task


async def test_replies_without_end_cost_the_driver_its_process(asking):
    async with asking as one:
        task = await one.begin("embed", EmbeddingRequest(("a",), "main"))
        piece = bytes(512 << 10)
        for _ in range(MAX_REPLY // len(piece) + 2):
            one.driver.tell(one.driver.calls[-1][0], Reply(piece, more=True))
            await one.kernel.settle()
        with pytest.raises(DriverCrashed, match="replies of more than 8 MiB"):
            await task


@pytest.mark.parametrize(
    ("method", "body", "kind"),
    [
        ("embed", b"\xc1", InvalidRequest),
        ("embed", b"\x81\xa5model\x01", InvalidRequest),
        ("vendor_models", b"\x80", InvalidRequest),
        ("embed", encode(EmbeddingRequest(("a",), "nobody")), NotFound),
        ("embed", encode(EmbeddingRequest(("a",), "b")), Unavailable),
        ("count_tokens", encode(InferenceRequest((user("a"),), model="main", session="none")), NotFound),
    ],
)
async def test_what_cannot_be_asked_is_refused(asking, method, body, kind):
    async with asking as one:
        with pytest.raises(kind):
            await one.inquiries.ask(method, body)
