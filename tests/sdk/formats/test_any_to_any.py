"""What one vendor said, said by every other's format: the text, the calls and how it ended come across."""

import json

import pytest
from tests.sdk.formats import cases, laws

from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.messages import Failure, Finish, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta

VENDORS = {
    "openai_chat": "openai_chat",
    "openai_responses": "openai_responses",
    "anthropic": "anthropic_messages",
    "gemini": "gemini",
    "huggingface": "huggingface_tgi",
    "ollama": "ollama",
    "llamacpp": "llamacpp_server",
    "vllm": "vllm",
    "qianfan": "qianfan",
    "dashscope": "dashscope",
    "tencent": "hunyuan",
    "llama_api": "meta",
}
WORDLESS = {("ollama", "content_filter"): "stop", ("meta", "content_filter"): "stop"}
"""Ends for which a format has no word, and what is said in their place."""
THOUGHTLESS = {"meta"}
"""Formats whose streams have no place for reasoning."""
REPLY = Reply("1", "m", 1)
layer = CompatibilityLayer()


def _loaded(arguments):
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _said(parts):
    calls = [(part.name, _loaded(part.arguments)) for part in parts if isinstance(part, ToolCall | ToolCallDelta)]
    return "".join(part.text for part in parts if isinstance(part, TextDelta)), calls


def _thought(deltas):
    return "".join(one.text for one in deltas if isinstance(one, ReasoningDelta) and not one.redacted)


def _ids(deltas):
    return [one.id for one in deltas if isinstance(one, ToolCallDelta)]


def _known(usage):
    return {name: count for name in ("input_tokens", "output_tokens") if (count := getattr(usage, name)) is not None}


@pytest.mark.parametrize("vendor", VENDORS)
def test_whole_answers_come_across(vendor):
    source = layer.format(VENDORS[vendor])
    for case in cases.load_all(vendor, "response"):
        if "finish" not in case.meaning or "error" in case.meaning:
            continue
        answer = source.decode_response(cases.wire_response(case))
        for name in MATRIX:
            target = layer.format(name)
            found = target.decode_response(target.encode_response(answer, REPLY))
            assert (found.text, _said(found.message.parts)) == (answer.text, _said(answer.message.parts)), (case, name)


@pytest.mark.parametrize("vendor", VENDORS)
def test_streams_come_across_and_none_that_failed_ends_well(vendor):
    source = layer.format(VENDORS[vendor])
    for case in cases.load_all(vendor, "stream"):
        deltas = laws.decoded(source, cases.pieces(case))
        for name in MATRIX:
            translator = layer.translate_stream(VENDORS[vendor], name, REPLY)
            raw = b"".join(translator.feed(piece) for piece in cases.pieces(case)) + translator.end()
            found = laws.decoded(layer.format(name), [raw])
            assert _said(found) == _said(deltas), (case, name)
            assert _ids(found) == _ids(deltas), (case, name)
            assert _thought(found) == ("" if name in THOUGHTLESS else _thought(deltas)), (case, name)
            if isinstance(deltas[-1], Finish):
                assert _known(deltas[-1].usage).items() <= _known(found[-1].usage).items(), (case, name)
            assert isinstance(found[-1], Failure) == isinstance(deltas[-1], Failure), (case, name)
            if isinstance(deltas[-1], Finish) and not _said(deltas)[1]:
                reason = deltas[-1].reason
                assert found[-1].reason == WORDLESS.get((name, reason), reason), (case, name)
