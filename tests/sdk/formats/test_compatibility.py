import json
import types

import pytest

from byenatos_sdk.formats.compatibility import VENDORS, CompatibilityLayer
from byenatos_sdk.formats.contract import Format
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unsupported


@pytest.fixture
def layer():
    return CompatibilityLayer()


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/v1/chat/completions", {}, "openai_chat"),
        ("/v1/completions", {}, "openai_chat"),
        ("/v1/embeddings", {}, "openai_chat"),
        ("/v1/responses", {}, "openai_responses"),
        ("/v1/responses/input_tokens", {}, "openai_responses"),
        ("/v1/messages?beta=true", {}, "anthropic_messages"),
        ("/v1/messages/count_tokens", {}, "anthropic_messages"),
        ("/v1beta/models/gemini-x:streamGenerateContent?alt=sse", {}, "gemini"),
        ("/v1/models/org%2Fm:generateContent", {}, "gemini"),
        ("/v1/models/m:batchEmbedContents", {}, "gemini"),
        ("/v1beta/models", {}, "gemini"),
        ("/v1/models", {}, "openai_chat"),
        ("/v1/models/gpt-x", {}, "openai_chat"),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, "anthropic_messages"),
        ("/v1/models", {"x-goog-api-key": "k", "anthropic-version": "x"}, "gemini"),
        ("/v1/models?key=k", {}, "gemini"),
        ("/v1/models", {"user-agent": "google-genai-sdk/3.4.0 gl-python/3.11"}, "gemini"),
        ("/api/chat", {}, "ollama"),
        ("/api/tags", {}, "ollama"),
        ("/api/v1/services/aigc/text-generation/generation", {}, "dashscope"),
        ("/api/v1/services/embeddings/text-embedding/text-embedding", {}, "dashscope"),
        ("/", {"x-tc-action": "ChatCompletions"}, "hunyuan"),
        ("/generate_stream", {}, "huggingface_tgi"),
        ("/completion", {}, "llamacpp_server"),
    ],
)
def test_a_clients_format_is_known_by_its_path_and_then_by_its_headers(layer, path, headers, name):
    assert layer.detect(WireRequest(path, headers=headers)) == name


@pytest.mark.parametrize("path", ["/", "", "/v1/nothing", "/api/nothing", "//[", "/%ff"])
def test_a_path_that_no_format_has_is_refused(layer, path):
    with pytest.raises(NotFound, match="expected a path of one of the formats openai_chat"):
        layer.detect(WireRequest(path))


def test_a_name_that_no_format_has_is_refused_and_the_names_are_told(layer):
    with pytest.raises(NotFound, match="'palm': expected one of openai_chat"):
        layer.format("palm")


def third_party(name):
    """An object with every name of the contract: what a registered format must have."""
    methods = {each for each in dir(Format) if not each.startswith("_")}
    return types.SimpleNamespace(**dict.fromkeys(methods, print), NAME=name, CAPABILITIES=None)


def test_a_third_partys_format_is_registered_and_recognised_by_its_paths(layer):
    acme = third_party("acme")
    layer.register(acme, paths=["/acme/chat/completions"])
    assert layer.format("acme") is acme
    assert layer.names()[-1] == "acme"
    assert layer.detect(WireRequest("/acme/chat/completions")) == "acme"
    assert layer.detect(WireRequest("/v1/chat/completions")) == "openai_chat"


def test_a_format_that_lacks_something_or_takes_anothers_name_is_refused(layer):
    with pytest.raises(InvalidRequest, match=r"found no .*'decode_error'"):
        layer.register(types.SimpleNamespace(NAME="half"))
    with pytest.raises(InvalidRequest, match="'gemini': expected a name of its own"):
        layer.register(third_party("gemini"))


def test_every_vendor_has_a_format_of_the_matrix():
    assert set(VENDORS.values()) <= set(MATRIX)


# ---- from any to any ---------------------------------------------------------------------------------------------

ASKED = WireRequest(
    "/v1/chat/completions",
    b'{"model":"m","stream":true,"seed":7,"messages":[{"role":"system","content":"Be brief."},'
    b'{"role":"user","content":"Hi"}]}',
)
REPLY = Reply("msg_1", "m", 1)


def test_a_request_of_one_format_becomes_one_of_another_and_what_was_lost_is_told(layer):
    found = layer.translate(ASKED, "anthropic")
    body = json.loads(found.encoded.wire.body)
    assert (body["stream"], body["messages"][0]["role"], body["max_tokens"]) == (True, "user", 4096)
    assert "Be brief." in str(body["system"])
    assert [loss.parameter for loss in found.losses] == ["seed"]
    with pytest.raises(Unsupported, match="seed"):
        layer.translate(ASKED, "anthropic", strict=True)


def test_an_answer_and_an_error_of_one_format_become_those_of_another(layer):
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}]}
    answer = layer.translate_response(WireResponse(json.dumps(said).encode()), "openai", "anthropic", REPLY)
    body = json.loads(answer.body)
    assert (answer.status, body["content"], body["stop_reason"]) == (
        200,
        [{"type": "text", "text": "Hello"}],
        "max_tokens",
    )
    refused = WireResponse(b'{"error":{"message":"slow down","type":"requests"}}', 429, {"retry-after": "2"})
    error = layer.translate_response(refused, "openai", "anthropic", REPLY)
    assert (error.status, json.loads(error.body)["error"]["type"]) == (429, "rate_limit_error")


def test_a_stream_of_one_format_becomes_one_of_another_and_one_that_broke_off_stays_broken(layer):
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    whole = layer.translate_stream("openai", "anthropic", REPLY)
    said = whole.feed(piece[:20]) + whole.feed(piece[20:]) + whole.feed(end) + whole.end()
    assert b"text_delta" in said
    assert said.rstrip().endswith(b'{"type":"message_stop"}')
    broken = layer.translate_stream("openai", "anthropic", REPLY)
    said = broken.feed(piece) + broken.end()
    assert b"event: error" in said
    assert b"message_stop" not in said
