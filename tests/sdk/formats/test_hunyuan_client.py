"""Tencent's own client reads what is written here, and what it sends, signature and all, is read as it was meant."""

import json

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.hunyuan.v20230901 import hunyuan_client, models
from tests.sdk.formats.cases import load, pieces, response_of

from byenatos_sdk.formats import hunyuan
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.errors import RateLimited
from byenatos_sdk.protocol.messages import (
    EmbeddingResponse,
    Failure,
    Finish,
    Image,
    Message,
    ReasoningDelta,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
    system,
)
from byenatos_sdk.protocol.tc3 import sign

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")  # the client

REPLY = Reply("req-1", "m", 1763800000)
TOOL = {"Type": "function", "Function": {"Name": "f", "Description": "d", "Parameters": '{"type":"object"}'}}


@pytest.fixture
def client(replay):
    profile = ClientProfile(httpProfile=HttpProfile(endpoint=replay.url.removeprefix("http://"), protocol="http"))
    return hunyuan_client.HunyuanClient(Credential("AKIDtest", "secret"), "ap-guangzhou", profile)


def request(**fields):
    asked = models.ChatCompletionsRequest()
    asked._deserialize({"Model": "m", "Messages": [{"Role": "user", "Content": "x"}]} | fields)
    return asked


def test_what_the_client_sends_is_read_as_it_was_meant_and_signed_as_we_sign(client, replay):
    replay.answer(hunyuan.encode_response(response_of({"text": "Hi", "finish": "stop"}), REPLY))
    contents = [
        {"Type": "text", "Text": "What?"},
        {"Type": "image_url", "ImageUrl": {"Url": "https://example.com/a.png"}},
    ]
    client.ChatCompletions(
        request(
            Messages=[{"Role": "system", "Content": "s"}, {"Role": "user", "Contents": contents}],
            Tools=[TOOL], ToolChoice="custom", CustomTool=TOOL, Temperature=0.5, Seed=7, Stop=["END"], Stream=False,
        )
    )  # fmt: skip
    wire = replay.requests[-1]
    decoded = hunyuan.decode_request(wire)
    assert decoded.request.messages == (
        system("s"),
        Message("user", (Text("What?"), Image(url="https://example.com/a.png"))),
    )
    assert decoded.request.tools == (Tool("f", "d", {"type": "object"}),)
    assert decoded.request.tool_choice == "f"
    assert decoded.request.sampling == Sampling(temperature=0.5, seed=7, stop=("END",))
    assert not decoded.stream
    assert (wire.headers["x-tc-action"], wire.headers["x-tc-version"]) == ("ChatCompletions", "2023-09-01")
    signed = dict(
        sign(
            identity="AKIDtest", key=b"secret", service="hunyuan", host=wire.headers["host"], method="POST", path="/",
            query="", content_type=wire.headers["content-type"], body=wire.body,
            at=int(wire.headers["x-tc-timestamp"]),
        )
    )  # fmt: skip
    assert signed[b"authorization"].decode() == wire.headers["authorization"]


@pytest.mark.parametrize(
    "case", [one for one in load("tencent", "response", "stream") if one.meaning.get("finish")], ids=str
)
def test_the_client_reads_what_is_written_for_each_meaning(case, client, replay):
    replay.answer(hunyuan.encode_response(response_of(case.meaning), REPLY))
    found = client.ChatCompletions(request()).Choices[0]
    assert found.Message.Content == case.meaning["text"]
    assert found.FinishReason == {"content_filter": "sensitive"}.get(case.meaning["finish"], case.meaning["finish"])
    calls = [(one.Id, one.Function.Name, json.loads(one.Function.Arguments)) for one in found.Message.ToolCalls or ()]
    assert calls == [(one["id"], one["name"], one["arguments"]) for one in case.meaning.get("tool_calls", [])]


def test_the_client_reads_a_stream(client, replay):
    encoder = hunyuan.stream_encoder(REPLY)
    deltas = [
        ReasoningDelta("hm"),
        TextDelta("Hel\u2028"),
        TextDelta("lo"),
        ToolCallDelta("c1", "f", '{"a":1}'),
        ToolCallDelta("c2", "f", "{}"),
        Finish("tool_calls", Usage(10, 5, 4)),
    ]
    replay.stream(*(encoder.encode([delta]) for delta in deltas), content_type=encoder.content_type)
    events = [json.loads(event["data"]) for event in client.ChatCompletions(request(Stream=True))]
    assert hunyuan.decode_request(replay.requests[-1]).stream
    parts = [event["Choices"][0]["Delta"] for event in events]
    assert "".join(part["Content"] for part in parts) == "Hel\u2028lo"
    assert "".join(part.get("ReasoningContent", "") for part in parts) == "hm"
    calls = [call for part in parts for call in part.get("ToolCalls", ())]
    assert [(call["Index"], call["Id"], call["Function"]["Arguments"]) for call in calls] == [
        (0, "c1", '{"a":1}'),
        (1, "c2", "{}"),
    ]
    assert [event["Choices"][0]["FinishReason"] for event in events] == [""] * 5 + ["tool_calls"]
    assert {(event["Id"], event["Created"]) for event in events} == {("req-1", 1763800000)}
    assert events[-1]["Usage"] == {
        "PromptTokens": 10, "CompletionTokens": 5, "TotalTokens": 15, "PromptTokensDetails": {"CachedTokens": "4"},
    }  # fmt: skip


def test_the_client_raises_errors_and_finds_them_in_streams(client, replay):
    replay.answer(hunyuan.encode_error(RateLimited("too fast")))
    with pytest.raises(TencentCloudSDKException, match="too fast") as caught:
        client.ChatCompletions(request(Stream=True))
    assert caught.value.code == "RequestLimitExceeded"
    encoder = hunyuan.stream_encoder(REPLY)
    raw = encoder.encode([TextDelta("Par"), Failure("upstream_timeout", "late", partial=True)])
    replay.stream(raw, content_type=encoder.content_type)
    events = [json.loads(event["data"]) for event in client.ChatCompletions(request(Stream=True))]
    assert events[-1]["ErrorMsg"] == {"Msg": "late", "Code": 4001}


def test_the_client_embeds(client, replay):
    replay.answer(hunyuan.encode_embedding_response(EmbeddingResponse(((0.5, -1.0),), usage=Usage(2, 0)), REPLY, None))
    asked = models.GetEmbeddingRequest()
    asked.InputList = ["a"]
    found = client.GetEmbedding(asked)
    assert [one.Embedding for one in found.Data] == [[0.5, -1.0]]
    assert found.Usage.TotalTokens == 2
    assert hunyuan.decode_embedding_request(replay.requests[-1]).inputs == ("a",)


def test_the_client_and_the_decoder_agree_on_what_the_vendor_says(client, replay):
    for case in load("tencent", "stream"):
        replay.stream(*pieces(case), content_type=case.wire["content_type"])
        events = [json.loads(event["data"]) for event in client.ChatCompletions(request(Stream=True))]
        texts = [event["Choices"][0]["Delta"]["Content"] for event in events if "Choices" in event]
        assert "".join(texts) == case.meaning["text"]
