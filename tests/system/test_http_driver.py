"""A vendor's driver of a few lines, in its sandbox, through the broker, against a vendor over TLS that misbehaves."""

import asyncio

import msgspec
import psutil
import pytest
from acme import ACCESS, event, tokens
from kernel_process import KernelProcess, counting, numbers, until_ready, write_config
from mock_vendor import MockVendor, Script
from plugin_folder import write_plugin

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    StreamInterrupted,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)
from byenatos_sdk.protocol.messages import Moved, TextDelta

ACME = """
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.http import HTTPDriver

class Plugin(HTTPDriver):
    \"\"\"Acme's hosted chat models, over their OpenAI-compatible API.\"\"\"

    format = openai_chat
    base_url = "https://api.acme.test/v1"
"""

MANIFEST = """
[settings]
first_s = 30.0
gap_s = 30.0

[[egress]]
host = "api.acme.test"
paths = ["/v1/"]
key = {secret = "acme", header = "authorization", prefix = "Bearer "}

[[models]]
id = "impatient"
settings = {model = "acme", first_s = 0.3, gap_s = 0.3}

[[models]]
id = "wordy"
settings = {model = "acme", capabilities = {outputs = []}}

[[models]]
id = "plain"
settings = {model = "acme", stream = false}
"""

END = [event(finish="stop"), b"data: [DONE]\n\n"]


@pytest.fixture(scope="module", params=[False, True], ids=["http/1.1", "http/2"])
def vendor(request):
    with MockVendor("api.acme.test", http2=request.param) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def acme(vendor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("acme")
    home = Home(folder / "home")
    slots = {"impatient": "impatient", "wordy": "wordy", "plain": "plain", "mixed": "echo"}
    write_config(home, default="acme", slots=slots, max_concurrent_models=8)
    home.access.write_text(ACCESS.format(ca=vendor.trust(folder / "ca.pem")))
    write_plugin(home, "acme", ACME, extra=MANIFEST)
    kernel = KernelProcess(home, environment={**vendor.environment, "ACME_KEY": "sk-0123456789abcdef"})
    yield kernel
    kernel.clean_up()


@pytest.fixture
def ask(acme, vendor):
    """Ask and return the deltas that came; what the stream ends with is raised."""
    vendor.forget()

    async def ask(*scripts, slot="default", heard=None, **options):
        vendor.queue(*scripts)
        heard = [] if heard is None else heard
        async with acme.client() as client:
            await until_ready(client, slot)
            async with client.stream("hello", model=slot, **options) as stream:
                async for delta in stream:
                    heard.append(delta)
                    if text(heard).endswith("4 "):
                        vendor.release()
        return heard

    return ask


def text(deltas):
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def test_a_driver_of_a_few_lines_streams_and_the_broker_has_the_key(ask, vendor):
    deltas = await ask(Script.stream(*tokens(20), *END), max_tokens=50)
    assert text(deltas) == "".join(f"{number} " for number in range(20))
    assert deltas[-1].reason == "stop"
    (request,) = vendor.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-0123456789abcdef"
    assert vendor.hosts == ["api.acme.test"]
    body = msgspec.json.decode(request.body)
    assert (body["model"], body["stream"], body["max_completion_tokens"]) == ("acme", True, 50)


async def test_bytes_may_be_cut_anywhere(ask):
    raw = b"".join([*tokens(3), event("Grüße 🌍"), *END])
    deltas = await ask(Script.stream(*(raw[at : at + 1] for at in range(len(raw)))))
    assert text(deltas) == "0 1 2 Grüße 🌍"


async def test_an_upstream_that_dies_after_5_of_20_tokens_is_an_interrupted_stream_and_not_an_end(ask):
    for ending in ("reset", "close"):
        heard = []
        with pytest.raises(StreamInterrupted) as caught:
            await ask(Script.stream(*tokens(5), ending=ending), heard=heard)
        assert text(heard) == "0 1 2 3 4 "
        assert caught.value.partial


async def test_a_stream_that_ends_without_its_terminal_is_interrupted_too(ask):
    with pytest.raises(StreamInterrupted):
        await ask(Script.stream(*tokens(5)))


async def test_an_error_in_mid_stream_is_the_vendors_error(ask):
    failed = b'data: {"error": {"message": "the engine overheated", "type": "server_error"}}\n\n'
    heard = []
    with pytest.raises(UpstreamFailed, match="overheated") as caught:
        await ask(Script.stream(*tokens(2), failed), heard=heard)
    assert text(heard) == "0 1 "
    assert caught.value.partial


async def test_a_vendor_that_stalls_in_mid_stream_is_given_up_and_its_connection_closed(ask, vendor):
    heard = []
    with pytest.raises(UpstreamTimeout, match="silent") as caught:
        await ask(Script.stream(*tokens(2), ending="stall"), slot="impatient", heard=heard)
    assert text(heard) == "0 1 "
    assert caught.value.partial
    assert await asyncio.to_thread(vendor.left.wait, 60)


async def test_a_vendor_that_never_begins_is_given_up_and_not_asked_again(ask, vendor):
    with pytest.raises(UpstreamTimeout, match="did not begin"):
        await ask(Script(status=0, ending="stall"), slot="impatient")
    with pytest.raises(UpstreamTimeout, match=r"did not begin|silent"):
        await ask(Script.stream(b": still thinking\n\n", ending="stall"), slot="impatient")
    assert len(vendor.requests) == 2


async def test_what_fails_before_the_first_word_is_tried_again(ask, vendor):
    whole = Script.stream(*tokens(1), *END)
    for failing in (
        Script(status=0, ending="reset"),
        Script(status=0, ending="close"),
        Script.stream(ending="close"),
        Script.json({"error": {"message": "busy", "type": "server_error"}}, 503),
        Script.json("<html>Bad gateway</html>", 502, content_type="text/html"),
        Script.stream(b'data: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n'),
        Script.json({"error": {"message": "overloaded"}}, 529),
    ):
        vendor.forget()
        assert text(await ask(failing, whole)) == "0 "
        assert len(vendor.requests) == 2


async def test_nothing_is_tried_for_ever(ask, vendor):
    with pytest.raises(Overloaded, match="busy"):
        await ask(*[Script.json({"error": {"message": "busy"}}, 529)] * 3)
    assert len(vendor.requests) == 3


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"retry_after_ms": "60"}, 2),
        ({"retry_after": "0"}, 2),
        ({"retry_after": "0.05"}, 2),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 2),
        ({"retry_after": "soon"}, 2),
        ({"retry_after": "3600"}, 1),
        ({"retry_after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 1),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "20ms"}, 2),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}, 1),
        ({"x_should_retry": "false"}, 1),
    ],
)
async def test_a_rate_limit_is_waited_for_if_that_is_short_and_told_if_it_is_long(ask, vendor, headers, asked):
    limited = Script.json({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, **headers)
    if asked == 2:
        assert text(await ask(limited, Script.stream(*tokens(1), *END))) == "0 "
    else:
        with pytest.raises(RateLimited, match="slow down") as caught:
            await ask(limited)
        if "x_should_retry" not in headers:
            assert caught.value.retry_after_s in {3600.0, 360.0} or caught.value.retry_after_s > 1e9
    assert len(vendor.requests) == asked


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "bad key sk-0123456789abcdef", "code": "invalid_api_key"}}, Unauthenticated),
        (413, {"error": {"message": "too large", "type": "invalid_request_error"}}, RequestTooLarge),
        (400, {"error": {"message": "no such thing", "type": "invalid_request_error"}}, InvalidRequest),
    ],
)
async def test_what_the_vendor_refuses_is_told_at_once_and_without_the_key(ask, vendor, status, body, kind):
    with pytest.raises(kind) as caught:
        await ask(Script.json(body, status))
    assert len(vendor.requests) == 1
    assert "0123456789" not in caught.value.message


async def test_a_client_that_leaves_closes_the_request_at_the_vendor_at_once(acme, vendor):
    vendor.forget()
    async with acme.client() as client:
        await until_ready(client)
        for pieces in ([], tokens(2)):
            vendor.queue(Script.stream(*pieces, ending="stall"))
            stream = client.stream("hello")
            if pieces:
                await anext(aiter(stream))
            else:
                assert await asyncio.to_thread(vendor.begun.wait, 60)
            await stream.aclose()
            assert await asyncio.to_thread(vendor.left.wait, 60)


@pytest.mark.parametrize("kind", ["infer", "embed", "vendor_models"])
async def test_a_client_that_leaves_a_plain_request_closes_it_at_the_vendor_at_once(acme, vendor, kind):
    asking = {
        "infer": lambda client: client.infer("hello", model="plain"),
        "embed": lambda client: client.embed(["a"], model="plain"),
        "vendor_models": lambda client: client.vendor_models("plain"),
    }
    vendor.forget()
    async with acme.client() as client:
        await until_ready(client, "plain")
        for script in (Script(status=0, ending="stall"), Script.json(b'{"data": [')._replace(ending="stall")):
            vendor.queue(script)
            asked = asyncio.ensure_future(asking[kind](client))
            assert await asyncio.to_thread(vendor.begun.wait, 60)
            asked.cancel()
            assert await asyncio.to_thread(vendor.left.wait, 60)
    assert len(vendor.requests) == 2


async def test_a_client_that_vanishes_closes_its_requests_at_the_vendor(acme, vendor):
    vendor.forget()
    vendor.queue(Script(status=0, ending="stall"))
    client = acme.client()
    async with client:
        await until_ready(client, "plain")
        asked = asyncio.ensure_future(client.infer("hello", model="plain"))
        assert await asyncio.to_thread(vendor.begun.wait, 60)
    assert await asyncio.to_thread(vendor.left.wait, 60)
    with pytest.raises(ByenatosError):
        await asked


async def test_an_answer_that_comes_whole_is_read_too(ask):
    message = {"role": "assistant", "content": "whole"}
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "acme",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    deltas = await ask(Script.json(body))
    assert text(deltas) == "whole"
    assert deltas[-1].usage.input_tokens == 3


async def test_stop_sequences_that_the_vendor_does_not_take_are_cut_here_and_told(ask, vendor):
    deltas = await ask(Script.stream(*tokens(9), ending="stall"), stop=["a", "b", "c", "d", "5 6"])
    assert text(deltas) == "0 1 2 3 4 "
    finish = deltas[-1]
    assert (finish.reason, finish.detail, finish.stop_sequence) == ("stop", "stop_sequence", "5 6")
    assert any(one.startswith("stop: emulated") for one in finish.adapted)
    assert await asyncio.to_thread(vendor.left.wait, 60)


async def test_what_the_vendor_cannot_be_told_is_in_the_finish(ask):
    deltas = await ask(Script.stream(*tokens(1), *END), top_k=5)
    assert deltas[-1].adapted
    assert deltas[-1].adapted[0].startswith("top_k: dropped")


async def test_what_the_vendor_cannot_be_told_is_refused_where_that_is_asked_for(ask, vendor):
    with pytest.raises(Unsupported, match="top_k: openai_chat has no such parameter"):
        await ask(Script.stream(*tokens(1), *END), top_k=5, strict=True)
    assert not vendor.requests


async def test_a_schema_that_the_vendor_does_not_know_is_checked_in_the_sandbox_and_repaired_once(ask, vendor):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    wrong, right = (Script.stream(event(answer), *END) for answer in ("three", '{"age": 3}'))
    assert text(await ask(wrong, right, slot="wordy", response_format=form)) == '{"age": 3}'
    assert "not JSON" in vendor.requests[1].body.decode()


async def test_an_answer_moves_from_a_local_model_to_the_vendor_in_the_middle_and_back(acme, vendor):
    vendor.forget()
    vendor.queue(Script.stream(event("and so on"), *END))
    async with acme.client() as client:
        await until_ready(client, "mixed")
        heard = []
        async with client.stream("count", model="mixed", extra=counting(-1, rate=50)) as stream:
            async for delta in stream:
                heard.append(delta)
                if text(heard).endswith("3 "):
                    await client.swap("mixed", "acme", strategy="immediate")
        assert text(heard).startswith("0 1 2 3 ")
        assert text(heard).endswith("and so on")
        assert [(delta.source, delta.target) for delta in heard if isinstance(delta, Moved)] == [("echo", "acme")]
        turns = msgspec.json.decode(vendor.requests[0].body)["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
        assert text(heard).startswith(turns[1]["content"])
        vendor.queue(Script.stream(*tokens(3), ending="stall"))
        heard.clear()
        async with client.stream("count", model="mixed", extra=counting(9)) as stream:
            async for delta in stream:
                heard.append(delta)
                if text(heard) == "0 1 2 ":
                    await client.swap("mixed", "echo", strategy="immediate")
        assert text(heard) == numbers(9)
        assert await asyncio.to_thread(vendor.left.wait, 60)


async def test_a_broker_that_is_killed_while_a_vendor_thinks_costs_a_try_and_not_the_answer(acme, vendor):
    vendor.forget()
    vendor.queue(Script(status=0, ending="stall"), Script.stream(*tokens(2), *END))
    async with acme.client() as client:
        await until_ready(client)
        answer = asyncio.ensure_future(client.infer("hello"))
        assert await asyncio.to_thread(vendor.begun.wait, 60)
        keeper = next(one for one in psutil.Process(acme.pid).children() if "byenatos_sandbox.broker" in one.cmdline())
        for server in keeper.children():
            server.kill()
        assert (await answer).text == "0 1 "
    assert len(vendor.requests) == 2


async def test_many_at_once_each_get_their_own(acme, vendor):
    vendor.forget()
    vendor.queue(*[Script.stream(event(f"answer {number}"), *END) for number in range(60)])
    async with acme.client() as client:
        await until_ready(client)
        answers = await asyncio.gather(*(client.infer("hello") for _ in range(60)))
    assert sorted(answer.text for answer in answers) == sorted(f"answer {number}" for number in range(60))


async def test_embeddings_and_the_list_of_models_come_from_the_vendor(acme, vendor):
    vendor.forget()
    async with acme.client() as client:
        await until_ready(client)
        data = [{"object": "embedding", "index": at, "embedding": [at, 0.5]} for at in (1, 0)]
        vendor.queue(Script.json({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 4}}))
        response = await client.embed(["a", "b"])
        assert response.vectors == ((0.0, 0.5), (1.0, 0.5))
        assert msgspec.json.decode(vendor.requests[-1].body)["input"] == ["a", "b"]
        vendor.queue(Script.json({"object": "list", "data": [{"id": "acme-1", "object": "model", "created": 1}]}))
        assert [model.id for model in await client.vendor_models()] == ["acme-1"]
        assert (vendor.requests[-1].method, vendor.requests[-1].path) == ("GET", "/v1/models")


async def test_what_the_vendor_offers_is_loaded_and_swapped_to_like_any_other(acme, vendor):
    listed = {"object": "list", "data": [{"id": name, "object": "model", "created": 1} for name in ("acme", "acme-2")]}
    vendor.forget()
    async with acme.client() as client:
        await until_ready(client)
        vendor.queue(*[Script.json(listed)] * 9)
        (report,) = await client.refresh_models("acme")
        assert (report.taken, report.problem) == (("acme",), "")
        offered = {model.id for model in await client.models() if model.offered_at}
        assert offered == {"acme-2"}
        vendor.forget()
        await client.swap("mixed", "acme-2")
        vendor.queue(Script.stream(event("from the second"), *END))
        assert (await client.infer("hello", model="mixed")).text == "from the second"
        assert msgspec.json.decode(vendor.requests[-1].body)["model"] == "acme-2"
        await client.swap("mixed", "echo")
