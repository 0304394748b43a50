"""Bodies that are almost right: the cases of OpenAI's family with something wrong in them."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import cases, laws
from tests.sdk.formats.mutations import mutated, mutated_stream

from byenatos_sdk.formats import llamacpp_server, meta, openai_chat, openai_responses, qianfan, vllm
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest

FORMATS = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "vllm": vllm,
    "qianfan": qianfan,
    "llamacpp": llamacpp_server,
    "llama_api": meta,
}


def _cases(*kinds):
    found = [(speaker, case) for vendor, speaker in FORMATS.items() for case in cases.load_all(vendor, *kinds)]
    return st.sampled_from(found)


_RANDOM = st.randoms(use_true_random=False)


@given(_cases("request"), _RANDOM)
@settings(max_examples=100, deadline=None)
def test_a_request_with_something_wrong_is_read_or_refused(chosen, random):
    speaker, case = chosen
    body = json.dumps(mutated(case.wire["body"], random)).encode()
    with suppress(InvalidRequest):
        request = speaker.decode_request(replace(cases.wire_request(case), body=body)).request
        again = speaker.decode_request(speaker.encode_request(request).wire).request
        assert again.model == request.model


@given(_cases("response", "error"), _RANDOM)
@settings(max_examples=100, deadline=None)
def test_an_answer_with_something_wrong_is_read_or_an_error(chosen, random):
    speaker, case = chosen
    wire = replace(cases.wire_response(case), body=json.dumps(mutated(case.wire["body"], random)).encode())
    assert isinstance(speaker.decode_error(wire), ByenatosError)
    with suppress(ByenatosError):
        response = speaker.decode_response(wire)
        written = speaker.encode_response(response, Reply("1", "m", 1))
        assert speaker.decode_response(written).text == response.text
    for name in ("decode_models", "decode_embedding_response", "decode_count", "decode_props", "decode_slots"):
        with suppress(ByenatosError):
            getattr(speaker, name, speaker.decode_response)(wire)


@given(_cases("stream"), _RANDOM)
@settings(max_examples=100, deadline=None)
def test_a_stream_with_something_wrong_ends_once(chosen, random):
    speaker, case = chosen
    laws.holds_for_any_bytes(speaker, [mutated_stream(case, random)])
