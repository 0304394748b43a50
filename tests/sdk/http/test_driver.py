"""What a driver for HTTP makes of a request, its settings, and what comes back, with a broker that the test plays."""

import asyncio
import json

import msgspec
import pytest
from msgspec.structs import replace

from byenatos_sdk.driver import Model
from byenatos_sdk.formats import anthropic_messages, openai_chat
from byenatos_sdk.formats.openai_chat import OPENAI, Dialect
from byenatos_sdk.http import HTTPDriver
from byenatos_sdk.protocol.errors import (
    InvalidRequest,
    PermissionDenied,
    RateLimited,
    StreamInterrupted,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    Finish,
    InferenceRequest,
    Message,
    Sampling,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    user,
)

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


class Acme(HTTPDriver):
    format = openai_chat
    formats = (anthropic_messages,)
    base_url = "https://api.acme.test/v1/"
    headers = {"X-Client": "byenatos"}  # noqa: RUF012
    embedding_inputs = 2


def answered(content_type, body, status=200, **headers):
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{named}\r\n"
    return head.encode() + body


def stream(*texts, finish="stop", usage=None):
    chunks = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    events = [{"object": "chat.completion.chunk", "model": "m", "choices": [choice]} for choice in chunks]
    if usage:
        events.append({"choices": [], "usage": usage})
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    return answered("text/event-stream", body)


def refusal(status, sentence):
    body = json.dumps({"error": {"type": "egress_refused", "code": status, "message": sentence}}).encode()
    return answered("application/json", body, status, x_byenatos_egress="refused")


@pytest.fixture
def asked(broker, run):
    """Start a driver and have it answer one request; what it yields."""

    def ask(request=None, kind=Acme, model="acme-1", **settings):
        heard = []

        async def main():
            driver = kind(settings)
            await driver.start(Model(model, None, settings))
            try:
                async for delta in driver.infer(request or InferenceRequest((user("hello"),))):
                    heard.append(delta)  # noqa: PERF401 - what came before an error counts
            finally:
                await driver.stop()

        run(main())
        return heard

    return ask


def test_a_request_goes_to_the_vendors_address_under_the_vendors_name_of_the_model(broker, asked):
    broker.queue(stream("Hi", usage={"prompt_tokens": 3, "completion_tokens": 1}))
    assert asked() == ["Hi", Finish("stop", Usage(3, 1), "m")]
    ((head, body),) = broker.requests
    lines = head.split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"host: api.acme.test", "x-client: byenatos", "content-type: application/json"} <= set(lines)
    assert msgspec.json.decode(body)["model"] == "acme-1"


def test_settings_say_where_how_and_what_else(broker, asked):
    broker.queue(stream("Hi"))
    extra = {"service_tier": "flex", "user_tag": 1}
    request = InferenceRequest((user("hello"),), extra={"service_tier": "priority"})
    at = {"base_url": "http://localhost:9/base", "headers": {"X-More": "1"}, "without": ["temperature"], "extra": extra}
    heard = asked(replace(request, sampling=Sampling(temperature=0.5)), **at, stream=False)
    ((head, body),) = broker.requests
    assert head.startswith("POST /base/chat/completions HTTP/1.1\r\nhost: localhost:9\r\n")
    assert "x-more: 1" in head
    said = msgspec.json.decode(body)
    assert said["service_tier"] == "priority"
    assert "temperature" not in said
    assert not said.get("stream")
    assert heard[-1].adapted[0].startswith("temperature: dropped")


def test_another_of_its_formats_is_spoken_if_the_settings_say_so():
    driver = Acme({"api": "anthropic_messages"})
    assert driver.spoken is anthropic_messages
    assert driver.continues
    assert not Acme({"api": "anthropic_messages", "capabilities": {"prefill": False}}).continues


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attempts": 0}, "attempts"),
        ({"typo": 1}, "typo"),
        ({"api": "morse"}, "openai_chat, anthropic_messages"),
        ({"without": ["charm"]}, "charm"),
        ({"capabilities": {"charm": True}}, "charm"),
        ({"capabilities": {"prefill": "yes"}}, "prefill"),
        ({"capabilities": {"tool_name": "("}}, "unterminated"),
    ],
)
def test_a_wrong_setting_is_named(settings, said):
    with pytest.raises(InvalidRequest, match=said):
        Acme(settings)


@pytest.mark.parametrize("base_url", ["", "api.acme.test", "ftp://x", "https://", "https://x/?a=b", "https://x/#a"])
def test_an_address_that_is_none_is_refused_at_the_start(asked, base_url):
    class Nowhere(Acme):
        pass

    Nowhere.base_url = base_url
    with pytest.raises(InvalidRequest, match="base_url"):
        asked(kind=Nowhere)


def test_a_header_with_a_line_break_is_never_sent(broker, asked):
    with pytest.raises(InvalidRequest, match="line break"):
        asked(headers={"x": "1\r\nauthorization: other"})
    assert not broker.requests


@pytest.mark.parametrize(
    ("status", "kind", "times"),
    [(403, PermissionDenied, 1), (413, InvalidRequest, 1), (503, Unavailable, 1), (502, UpstreamFailed, 2)],
)
def test_what_the_broker_refuses_is_told_in_its_words(broker, asked, status, kind, times):
    broker.queue(*[refusal(status, "acme:443 is not granted")] * times)
    with pytest.raises(kind, match="the egress broker: acme:443 is not granted"):
        asked(attempts=2)
    assert len(broker.requests) == times


def test_json_that_was_asked_for_in_words_is_unwrapped_and_checked(broker, asked):
    broker.queue(stream("```json\n", '{"age": 3}', "\n```"))
    weak = {"capabilities": {"outputs": []}}
    assert asked(InferenceRequest((user("who?"),), response_format=FORM), **weak)[0] == '{"age": 3}'
    assert "JSON schema" in broker.requests[0][1].decode()


def test_json_that_is_wrong_is_repaired_once_and_the_usage_adds_up(broker, asked):
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    broker.queue(stream("I am 3", usage=usage), stream('{"age": 3}', usage=usage))
    heard = asked(InferenceRequest((user("who?"),), response_format=FORM), capabilities={"outputs": ["json_object"]})
    assert heard[0] == '{"age": 3}'
    assert heard[-1].usage == Usage(20, 4)
    second = msgspec.json.decode(broker.requests[1][1])["messages"]
    assert [turn["role"] for turn in second] == ["system", "user", "assistant", "user"]
    assert "not JSON" in second[-1]["content"]


def test_json_that_stays_wrong_is_told_and_an_error_if_it_must_be_strict(broker, asked):
    weak = {"capabilities": {"outputs": []}}
    broker.queue(*[stream("I am 3")] * 2)
    heard = asked(InferenceRequest((user("who?"),), response_format=FORM), **weak)
    assert heard[0] == "I am 3"
    assert "nor was the one before" in heard[-1].adapted[-1]
    broker.queue(*[stream("I am 3")] * 2)
    strict = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    with pytest.raises(UpstreamFailed, match="not what was asked for"):
        asked(InferenceRequest((user("who?"),), response_format=strict), **weak)


LOOK = Tool("sky.look", "Look up", {"type": "object"})
WORDLESS = {"capabilities": {"tools": False}}
CALL = '<tool_call>\n{"name": "sky.look", "arguments": {"far": true}}\n</tool_call>'


def test_a_model_without_tools_is_told_of_them_in_words_if_the_settings_allow_it(broker, asked):
    request = InferenceRequest((user("Is it blue?"),), tools=(LOOK,))
    with pytest.raises(Unsupported, match="tools: openai_chat has none"):
        asked(request, **WORDLESS)
    assert not broker.requests
    broker.queue(stream("I look.\n", CALL[:20], CALL[20:]))
    heard = asked(request, **WORDLESS, emulate_tools=True)
    assert heard[:2] == ["I look.\n", ToolCallDelta("call_0_sky.look", "sky.look", '{"far":true}')]
    assert heard[2].reason == "tool_calls"
    assert heard[2].adapted[0].startswith("tools: emulated")
    said = msgspec.json.decode(broker.requests[0][1])
    assert "tools" not in said
    assert "sky.look" in said["messages"][0]["content"]


def test_what_a_tool_answered_goes_back_in_words_too(broker, asked):
    called = Message("assistant", (ToolCall("call_0_sky.look", "sky.look", "{}"),))
    answer = Message("tool", (ToolResult("call_0_sky.look", "blue", name="sky.look"),))
    broker.queue(stream("It is ", "blue."))
    heard = asked(InferenceRequest((user("Q"), called, answer), tools=(LOOK,)), **WORDLESS, emulate_tools=True)
    assert "".join(one for one in heard if isinstance(one, str)) == "It is blue."
    assert heard[-1].reason == "stop"
    messages = msgspec.json.decode(broker.requests[0][1])["messages"]
    assert [turn["role"] for turn in messages] == ["system", "user", "assistant", "user"]
    assert '"content":"blue"' in messages[-1]["content"]


def test_a_call_in_words_that_was_cut_off_never_reaches_the_application(broker, asked):
    broker.queue(stream("I look. ", CALL[:30], finish="length"))
    heard = asked(InferenceRequest((user("Q"),), tools=(LOOK,)), **WORDLESS, emulate_tools=True)
    assert "".join(heard[:-1]) == "I look. "
    assert heard[-1].reason == "length"


def test_a_tool_whose_name_the_vendor_refuses_is_called_by_its_own_name_all_the_same(broker, asked):
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "sky_look", "arguments": "{}"}}
    body = {"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    broker.queue(answered("application/json", msgspec.json.encode(body)))
    heard = asked(InferenceRequest((user("Q"),), tools=(LOOK,)))
    assert heard[0] == ToolCallDelta("c1", "sky.look", "{}")
    assert heard[1].adapted == ("tools.name: renamed: openai_chat refuses 'sky.look': it is called 'sky_look' there",)
    assert msgspec.json.decode(broker.requests[0][1])["tools"][0]["function"]["name"] == "sky_look"


def test_an_answer_that_was_cut_short_is_not_judged(broker, asked):
    broker.queue(stream('{"age"', finish="length"))
    weak = {"capabilities": {"outputs": []}}
    heard = asked(InferenceRequest((user("who?"),), response_format=FORM), **weak)
    assert (heard[0], heard[-1].reason) == ('{"age"', "length")


def test_the_requests_own_time_counts(broker, asked):
    with pytest.raises(UpstreamTimeout):
        asked(InferenceRequest((user("hello"),), timeout_s=0.05))
    assert broker.left


def test_embeddings_go_in_as_many_requests_as_it_takes(broker, run):
    def vectors(*values):
        data = [{"index": at, "embedding": [value]} for at, value in enumerate(values)]
        return answered(
            "application/json", msgspec.json.encode({"data": data, "usage": {"prompt_tokens": len(values)}})
        )

    async def main():
        driver = Acme({})
        await driver.start(Model("e", None, {}))
        broker.queue(vectors(1.0, 2.0), vectors(3.0))
        response = await driver.embed(EmbeddingRequest(("a", "b", "c")))
        assert response.vectors == ((1.0,), (2.0,), (3.0,))
        assert response.usage.input_tokens == 3
        broker.queue(vectors(1.0))
        with pytest.raises(UpstreamFailed, match="expected 2 vectors, found 1"):
            await driver.embed(EmbeddingRequest(("a", "b")))

        empty = b'{"data": [{"index": 0, "embedding": []}], "model": "e"}'
        broker.queue(answered("application/json", empty))
        with pytest.raises(UpstreamFailed, match="expected numbers in every vector"):
            await driver.embed(EmbeddingRequest(("a",)))
        await driver.stop()

    run(main())


def test_a_list_of_models_is_read_page_by_page_and_not_for_ever(broker, run):
    def page(*ids, more=False):
        models = [
            {"type": "model", "id": one, "display_name": one, "created_at": "2026-01-01T00:00:00Z"} for one in ids
        ]
        body = {"data": models, "has_more": more, "first_id": ids[0], "last_id": ids[-1]}
        return answered("application/json", msgspec.json.encode(body))

    async def main():
        driver = Acme({"api": "anthropic_messages"})
        await driver.start(Model("e", None, {}))
        broker.queue(page("a", "b", more=True), page("c"))
        assert [model.id for model in await driver.models()] == ["a", "b", "c"]
        broker.queue(*[page("a", more=True)] * 60)
        assert len(await driver.models()) == 50
        await driver.stop()

    run(main())


def test_what_no_format_of_the_vendor_knows_is_unsupported(broker, run):
    class Plain(HTTPDriver):
        format = openai_chat
        base_url = "https://x"

    async def main():
        driver = Plain({})
        await driver.start(Model("e", None, {}))
        with pytest.raises(Unsupported, match="token counts"):
            await driver.count_tokens(InferenceRequest((user("a"),)))
        await driver.stop()

    run(main())


def test_an_instance_whose_vendor_fails_again_and_again_says_so_until_it_does_not(broker, run):
    async def main():
        driver = Acme({"attempts": 1})
        await driver.start(Model("e", None, {}))

        async def ask(answer):
            broker.queue(answer)
            return [delta async for delta in driver.infer(InferenceRequest((user("a"),)))]

        failed = answered("application/json", b'{"error": {"message": "overheated"}}', 500)
        for number in range(3):
            assert (await driver.health()).status == "ok", number
            with pytest.raises(UpstreamFailed):
                await ask(failed)
        health = await driver.health()
        assert health.status == "degraded"
        assert "overheated" in health.detail
        with pytest.raises(InvalidRequest):  # which says nothing about the vendor
            await ask(answered("application/json", b'{"error": {"message": "no"}}', 400))
        await ask(stream("Hi"))
        assert (await driver.health()).status == "ok"
        await driver.stop()

    run(main())


def test_closing_the_generator_hangs_up(broker, run):
    async def main():
        driver = Acme({})
        await driver.start(Model("e", None, {}))
        head = b"HTTP/1.1 200 \r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        event = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
        broker.queue(head + b"%x\r\n%b" % (len(event), event) + b"\r\n")
        deltas = driver.infer(InferenceRequest((user("a"),)))
        assert await anext(deltas) == "Hi"
        await deltas.aclose()
        while not broker.left:
            await asyncio.sleep(0)
        await driver.stop()

    run(main())


def test_a_connection_is_kept_after_an_error(broker, run):
    async def main():
        driver = Acme({"attempts": 1})
        await driver.start(Model("e", None, {}))
        for _ in range(3):
            broker.queue(answered("application/json", b'{"error": {"message": "slow down"}}', 429))
            with pytest.raises(RateLimited):
                async for _ in driver.infer(InferenceRequest((user("a"),))):
                    pass
        assert broker.dialled == 1
        await driver.stop()

    run(main())


def test_a_decoder_that_says_nothing_at_the_end_is_an_interrupted_stream(broker, asked):
    class Silent(Dialect):
        def stream_decoder(self, *, choice=0):
            class Nothing:
                def feed(self, data):
                    return []

                def end(self):
                    return []

            return Nothing()

    class Odd(HTTPDriver):
        format = Silent(OPENAI)
        base_url = "https://x"

    broker.queue(stream("Hi"))
    with pytest.raises(StreamInterrupted):
        asked(kind=Odd, attempts=1)


def test_a_dialect_is_a_format_like_any_other(broker, asked):
    class Other(HTTPDriver):
        format = Dialect(OPENAI)
        base_url = "https://x"

    broker.queue(stream("Hi"))
    assert asked(kind=Other)[0] == "Hi"
