"""What authors of formats test with: it passes formats that keep the contract, and names what another breaks."""

import types
from pathlib import Path

import pytest
from tests.sdk.formats import quill

from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.wire import WireRequest
from byenatos_sdk.testing import check_format

ANSWER = b'{"say": "Hello there", "over": true, "cost": [2, 3]}'
STREAM = b'{"say": "Hello "}\n\n{"say": "th\xc3\xa9re"}\n{"over": true, "cost": [2, 3]}\n'


def test_a_format_that_keeps_the_contract_passes():
    check_format(quill, answers=[ANSWER], streams=[STREAM])


@pytest.mark.parametrize("name", ["openai_chat", "anthropic_messages", "gemini", "ollama"])
def test_those_that_ship_keep_it_but_for_their_names(name):
    shipped = CompatibilityLayer().format(name)
    names = {one: getattr(shipped, one) for one in dir(shipped) if not one.startswith("__")}
    check_format(types.SimpleNamespace(**{**names, "NAME": "another"}))


def test_a_third_partys_format_is_told_by_its_path_and_translated_to_and_from():
    layer = CompatibilityLayer()
    layer.register(quill, paths=["/v2/talk"])
    asked = WireRequest("/v2/talk", b'{"who": "m", "lines": [{"by": "human", "say": "hi"}], "cap": 5, "flow": true}')
    translated = layer.translate(asked, "openai_chat")
    assert b'"content":"hi"' in translated.encoded.wire.body
    assert b'"max_completion_tokens":5' in translated.encoded.wire.body
    back = layer.translate(translated.encoded.wire, "quill", source="openai_chat")
    assert quill.decode_request(back.encoded.wire) == translated.decoded


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("def encode_error", "def encode_failure", r"no \['encode_error'\]"),
        ('NAME = "quill"', 'NAME = "ollama"', "found one that is taken"),
        ("asked.cap", "None", "decode_request: expected max_tokens 64, found None"),
        ('ROLES.get(one.by, "user")', "'user'", "decode_request: expected .* as encode_request was given"),
        ("read_as(asked_decoder, wire.body)", "asked_decoder.decode(wire.body)", "decode_request: expected an error"),
        ('read_as(said_decoder, unit, "line")', "said_decoder.decode(unit)", "stream_decoder: expected it to raise"),
        ('if isinstance(body, dict) else ""', "", "decode_error: expected to read"),
        ("self.fail(UpstreamFailed(said.oops))", "self.say(Finish())", "expected a Failure to be read as one"),
        ("        if said.over:", "        if said.say or said.over:", "stream_decoder: expected the text"),
    ],
)
def test_what_a_format_does_otherwise_is_named(right, wrong, said):
    code = Path(quill.__file__).read_text()
    assert right in code
    module = types.ModuleType("altered")
    exec(compile(code.replace(right, wrong, 1), "altered", "exec"), module.__dict__)
    with pytest.raises(AssertionError, match=said):
        check_format(module, answers=[ANSWER], streams=[STREAM])
