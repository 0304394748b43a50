import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import strategies
from tests.sdk.formats.cases import (
    Case,
    assert_deltas,
    assert_request,
    assert_response,
    load,
    request_of,
    response_of,
    wire_request,
)
from tests.sdk.formats.chat_dialects import equivalent
from tests.sdk.formats.laws import (
    answers_or_fails,
    decoded,
    holds_for_any_bytes,
    joined,
    reads_or_refuses,
    same_however_cut,
)

from byenatos_sdk.formats import huggingface_tgi as tgi
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    StreamInterrupted,
    Unsupported,
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    Sampling,
    TextDelta,
    TokenCount,
    TokenLogprob,
    Usage,
    user,
)

CHAT = Reply("chatcmpl-1", "org/m", 1763800000)


def asking(path: str = "/generate", prompt: str = "Once ", **extra: Any) -> Reply:
    return replace(CHAT, asked=Decoded(InferenceRequest((user(prompt),), extra=extra, raw=True), path=path))


RAW, DETAILS = asking(), asking(details=True)


def cases(*kinds: str) -> list[Case]:
    return load("huggingface", *kinds) + load("huggingface_own", *kinds)


def ends(case: Case) -> bool:
    return bool(case.meaning.get("finish"))


def test_the_module_is_a_format_with_everything_but_an_end_user():
    for offer in (Format, EmbeddingFormat, ModelListFormat, TokenCountFormat):
        assert isinstance(tgi, offer)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    assert_request(tgi.decode_request(wire_request(case)), case.meaning)


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_written_as_the_server_takes_it(case):
    encoded = tgi.encode_request(request_of(case.meaning), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.stops == tuple(case.meaning.get("params", {}).get("stop", ()))
    found, wanted = json.loads(encoded.wire.body), json.loads(json.dumps(case.wire["body"]))
    if "prompt" not in case.meaning:
        assert encoded.wire.path == case.wire["path"]
        if "tool_choice" in wanted:
            wanted["tool_choice"]["type"] = "function"
        assert equivalent(found) == equivalent(wanted)
        return
    assert encoded.wire.path == ("/generate_stream" if case.meaning["stream"] else "/generate")
    wanted["parameters"].pop("truncate", None)
    assert found == wanted


@pytest.mark.parametrize(
    "case", [one for one in cases("response", "stream") if ends(one) and "tool_calls" not in one.meaning], ids=str
)
def test_an_answer_to_a_raw_text_is_written_so_that_it_reads_the_same(case):
    meaning = {key: value for key, value in case.meaning.items() if key != "usage"}
    response = response_of(case.meaning)
    assert_response(tgi.decode_response(tgi.encode_response(response, DETAILS)), meaning)
    deltas = decoded(tgi, [tgi.stream_encoder(DETAILS).encode(deltas_of(response))])
    assert_deltas(deltas, {key: value for key, value in case.meaning.items() if key != "logprobs"})


@pytest.mark.parametrize(
    "case",
    [one for one in cases("response", "stream") if ends(one) and one.meaning["finish"] != "stop_sequence"],
    ids=str,
)
def test_an_answer_to_a_conversation_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    assert_response(tgi.decode_response(tgi.encode_response(response, CHAT)), case.meaning)
    assert_deltas(decoded(tgi, [tgi.stream_encoder(CHAT).encode(deltas_of(response))]), case.meaning)


# ---- requests --------------------------------------------------------------------------------------------------


def asked(parameters: Any = None, path: str = "/generate", **fields: Any) -> WireRequest:
    return WireRequest(path, json.dumps({"inputs": "x", "parameters": parameters} | fields).encode())


@pytest.mark.parametrize(
    ("wire", "place"),
    [
        (asked(inputs=None), "inputs: expected a string"),
        (asked(inputs=["x"]), "inputs: expected a string"),
        (asked("x"), "parameters: expected an object"),
        (asked({"temperature": "hot"}), "parameters.temperature: expected a number"),
        (asked({"top_k": 1.5}), "parameters.top_k: expected a whole number"),
        (asked({"stop": 5}), "parameters.stop: expected a list"),
        (asked({"grammar": {"type": "yaml"}}), "parameters.grammar.type: expected json, json_schema or regex"),
        (asked({"grammar": {"type": "json", "value": 5}}), "parameters.grammar.value: expected an object"),
        (WireRequest("/v1/chat/completions", b'{"messages": "x"}'), "messages: expected a list"),
        (WireRequest("/generate", b"{"), "expected JSON"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(wire, place):
    with pytest.raises(InvalidRequest, match=place):
        tgi.decode_request(wire)


def test_the_path_decides_whether_a_text_is_streamed_and_at_the_root_the_body_does():
    for path, stream, expected in (
        ("/generate", True, False),
        ("/generate_stream", False, True),
        ("/", True, True),
        ("/models/org/m", False, False),
    ):
        assert tgi.decode_request(asked(path=path, stream=stream)).stream is expected


def test_older_names_and_forms_of_parameters_are_read():
    found = tgi.decode_request(
        asked({"stop_sequences": ["a"], "grammar": {"type": "json_schema", "value": {"name": "n", "schema": {}}}})
    ).request
    assert found.sampling.stop == ("a",)
    assert found.response_format == {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}


def test_greedy_and_neutral_values_are_said_by_leaving_them_out():
    sampling = Sampling(temperature=0, top_p=1.0, top_k=0, repetition_penalty=1.0, seed=0, stop=tuple("abcde"))
    encoded = tgi.encode_request(InferenceRequest((user("x"),), sampling=sampling, raw=True))
    parameters = json.loads(encoded.wire.body)["parameters"]
    assert parameters == {
        "details": True, "return_full_text": False, "repetition_penalty": 1.0, "seed": 1, "stop": ["a", "b", "c", "d"],
    }  # fmt: skip
    assert [loss.parameter for loss in encoded.losses] == ["stop", "seed"]
    assert encoded.stops == ("a", "b", "c", "d", "e")
    one = tgi.encode_request(InferenceRequest((user("x"),), sampling=Sampling(temperature=1), raw=True))
    assert json.loads(one.wire.body)["parameters"]["do_sample"] is True


def test_what_only_raw_texts_have_is_lost_in_conversations_and_told():
    sampling = Sampling(top_k=5, repetition_penalty=1.1, top_p=1.0, temperature=0)
    encoded = tgi.encode_request(InferenceRequest((user("x"),), sampling=sampling))
    body = json.loads(encoded.wire.body)
    assert (body["temperature"], "top_p" in body, "top_k" in body) == (0, False, False)
    assert [loss.parameter for loss in encoded.losses] == ["top_k", "repetition_penalty"]


def test_json_of_any_kind_is_asked_for_by_a_schema():
    request = InferenceRequest((user("x"),), response_format={"type": "json_object"})
    chat = tgi.encode_request(request)
    assert json.loads(chat.wire.body)["response_format"] == {"type": "json_object", "value": {"type": "object"}}
    raw = tgi.encode_request(replace(request, raw=True))
    assert json.loads(raw.wire.body)["parameters"]["grammar"] == {"type": "json", "value": {"type": "object"}}
    for encoded in (chat, raw):
        assert tgi.decode_request(encoded.wire).request.response_format == {"type": "json_object"}


def expressible(request: InferenceRequest) -> InferenceRequest:
    """Return ``request`` without what is left out because it means nothing."""
    top_p = None if request.sampling.top_p == 1 else request.sampling.top_p
    return replace(request, sampling=replace(request.sampling, top_p=top_p))


@settings(max_examples=50, deadline=None)
@given(strategies.requests(tgi.CAPABILITIES).map(expressible), st.booleans())
def test_a_conversation_survives_both_ways(request, stream):
    encoded = tgi.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = tgi.decode_request(encoded.wire)
    assert found.stream == stream
    assert found.request == request


_number = st.floats(0.01, 2)
_prompts = st.builds(
    InferenceRequest,
    strategies.texts.map(lambda text: (user(text),)),
    sampling=st.builds(
        Sampling,
        temperature=st.none() | _number.filter(lambda value: value != 1),
        top_p=st.none() | st.floats(0.01, 0.99),
        top_k=st.none() | st.integers(1, 100),
        max_tokens=st.none() | st.integers(1, 100),
        stop=st.lists(strategies.texts, max_size=4, unique=True).map(tuple),
        seed=st.none() | st.integers(1, 2**60),
        frequency_penalty=st.none() | st.floats(-2, 2),
        repetition_penalty=st.none() | _number,
        logprobs=st.none() | st.integers(0, 5),
    ),
    response_format=st.sampled_from(
        [None, {"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"a": 1}}}]
    ),
    raw=st.just(True),
)


@settings(max_examples=50, deadline=None)
@given(_prompts, st.booleans())
def test_a_raw_text_survives_both_ways(request, stream):
    encoded = tgi.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = tgi.decode_request(encoded.wire)
    assert found.stream == stream
    assert replace(found.request, extra={}) == request


@settings(max_examples=100)
@given(st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_read_or_refused(data):
    for path in ("/", "/generate", "/v1/chat/completions"):
        reads_or_refuses(tgi, WireRequest(path, data))


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[7]", b'{"generated_text": 5}', b"<html>"])
def test_a_body_that_is_no_answer_is_the_vendors_failure(body):
    with pytest.raises(UpstreamFailed):
        tgi.decode_response(WireResponse(body))


_usages = st.integers(0, 99).map(lambda count: Usage(None, count))


@settings(max_examples=50, deadline=None)
@given(strategies.responses(usage=_usages, tools=False, logprobs=True, reasons=("stop", "length")))
def test_an_answer_to_a_raw_text_survives_both_ways(response):
    found = tgi.decode_response(tgi.encode_response(response, DETAILS))
    logprobs = found.logprobs if any(one.top for one in response.logprobs) else response.logprobs
    assert replace(found, model=response.model, logprobs=logprobs) == response


@settings(max_examples=50, deadline=None)
@given(strategies.responses(reasoning=True, logprobs=True))
def test_an_answer_to_a_conversation_survives_both_ways(response):
    found = tgi.decode_response(tgi.encode_response(response, replace(CHAT, model=response.model)))
    usage = replace(found.usage, cache_write_tokens=response.usage.cache_write_tokens)
    assert replace(found, usage=usage) == response


def test_details_and_the_prompt_come_where_they_are_asked_for():
    response = response_of({"text": "upon", "finish": "stop", "usage": {"output": 2}})
    assert json.loads(tgi.encode_response(response, RAW).body) == {"generated_text": "upon"}
    whole = tgi.encode_response(response, asking(return_full_text=True))
    assert json.loads(whole.body) == {"generated_text": "Once upon"}
    assert json.loads(tgi.encode_response(response, DETAILS).body)["details"] == {
        "finish_reason": "eos_token", "generated_tokens": 2, "seed": None, "prefill": [], "tokens": [],
    }  # fmt: skip


# ---- streams ---------------------------------------------------------------------------------------------------


def encoded_stream(deltas, reply):
    encoder = tgi.stream_encoder(reply)
    return b"".join(encoder.encode([delta]) for delta in deltas)


def without_details(usage: Usage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens)


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(tools=False), st.lists(st.integers(0, 10**4), max_size=4))
def test_a_stream_of_a_raw_text_survives_both_ways_however_it_is_cut(deltas, cuts):
    raw = encoded_stream(deltas, RAW)
    *others, end = deltas
    reason = "length" if end.reason == "length" else "stop"
    assert joined(decoded(tgi, [raw])) == joined([*others, Finish(reason, without_details(end.usage))])
    same_however_cut(tgi, raw, cuts)
    assert tgi.stream_encoder(RAW).encode(deltas) == raw
    lines = raw.decode().splitlines()
    assert len(lines) == raw.count(b"\n")


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(reasoning=True, logprobs=True), st.lists(st.integers(0, 10**4), max_size=4))
def test_a_stream_of_a_conversation_survives_both_ways_however_it_is_cut(deltas, cuts):
    raw = encoded_stream(deltas, CHAT)
    found = joined(decoded(tgi, [raw]))
    *others, end = joined(deltas)
    assert [parsed(delta) for delta in found[:-1]] == [parsed(delta) for delta in others]
    assert (found[-1].reason, found[-1].usage.output_tokens) == (end.reason, end.usage.output_tokens)
    same_however_cut(tgi, raw, cuts)
    assert len(raw.decode().splitlines()) == raw.count(b"\n")


def parsed(delta):
    """Return a call with its arguments as a value: how characters are escaped means nothing."""
    return (delta.id, delta.name, json.loads(delta.arguments)) if hasattr(delta, "arguments") else delta


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_end_in_one_terminal(found):
    holds_for_any_bytes(tgi, found)


_tokens = strategies.odd_objects("id", "text", "logprob", "special")
EVENTS = strategies.odd_objects(
    "generated_text",
    "error",
    "error_type",
    token=_tokens,
    top_tokens=st.lists(_tokens | st.lists(_tokens, max_size=1), max_size=2),
    details=strategies.odd_objects(
        "finish_reason", "generated_tokens", "input_length", "tokens", "top_tokens", "prefill"
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=4))
def test_events_of_any_shape_end_in_one_terminal(events):
    holds_for_any_bytes(tgi, [b"data:" + json.dumps(event).encode() + b"\n\n" for event in events])
    for event in (*events, events):
        answers_or_fails(lambda event=event: tgi.decode_response(WireResponse(json.dumps(event).encode())))


def test_log_probabilities_are_said_where_they_come_right_behind_their_text():
    tokens = (TokenLogprob("up", -0.5, (("up", -0.5), ("a", -2.0))), TokenLogprob("on", -0.25, (("on", -0.25),)))
    deltas = [TextDelta("upon"), Logprobs(tokens), Finish("stop", Usage(1, 2))]
    raw = tgi.stream_encoder(RAW).encode(deltas)
    found = decoded(tgi, [raw])
    assert joined([delta for delta in found if isinstance(delta, TextDelta)]) == [TextDelta("upon")]
    assert [one for delta in found if isinstance(delta, Logprobs) for one in delta.tokens] == list(tokens)


def test_the_last_event_repeats_the_text_with_the_prompt_where_it_is_asked_for():
    raw = encoded_stream([TextDelta("upon"), Finish("stop", Usage(1, 2))], asking(return_full_text=True))
    last = json.loads(raw.split(b"data:")[-1])
    assert last["generated_text"] == "Once upon"
    assert last["details"] == {"finish_reason": "eos_token", "generated_tokens": 2, "input_length": 1, "seed": None}
    assert last["token"]["special"] is True


@pytest.mark.parametrize("reply", [RAW, CHAT], ids=["raw", "chat"])
def test_a_failure_is_said_in_the_stream_with_its_type(reply):
    raw = encoded_stream([TextDelta("Par"), Failure(Overloaded.code, "full", partial=True)], reply)
    assert json.loads(raw.split(b"data:")[-1]) == {"error": "full", "error_type": "overloaded"}
    assert joined(decoded(tgi, [raw])) == [TextDelta("Par"), Failure(Overloaded.code, "full", partial=True)]
    late = decoded(tgi, [encoded_stream([Failure(DeadlineExceeded.code, "late")], reply)])
    assert [type(delta) for delta in late] == [Failure]


@pytest.mark.parametrize("reply", [RAW, CHAT], ids=["raw", "chat"])
def test_a_keep_alive_means_nothing(reply):
    encoder = tgi.stream_encoder(reply)
    raw = encoder.keep_alive() + encoder.encode([TextDelta("a"), Finish("stop", Usage(1, 1))])
    assert decoded(tgi, [raw])[0] == TextDelta("a")
    assert encoder.content_type == "text/event-stream"


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("x"), 422, "validation"),
        (ContextLengthExceeded("x"), 422, "validation"),
        (Overloaded("x"), 429, "overloaded"),
        (RateLimited("x", retry_after_s=3), 429, None),
        (NotFound("x"), 404, None),
        (UpstreamFailed("x"), 424, "generation"),
        (StreamInterrupted("x"), 500, "incomplete_generation"),
        (ByenatosError("x"), 500, None),
    ],
)
def test_errors_have_the_status_and_type_that_clients_expect(error, status, kind):
    wire = tgi.encode_error(error)
    assert (wire.status, json.loads(wire.body).get("error_type")) == (status, kind)
    assert wire.headers.get("retry-after") == (None if error.retry_after_s is None else "3")


def test_a_context_that_is_too_small_is_still_known_for_that():
    assert isinstance(tgi.decode_error(tgi.encode_error(ContextLengthExceeded("too much"))), ContextLengthExceeded)


# ---- the server ------------------------------------------------------------------------------------------------


def test_the_servers_model_is_read_and_written():
    body = {"model_id": "org/m", "max_total_tokens": 4096, "max_input_tokens": 4095, "version": "3.3.6", "sha": "x"}
    ((model,), page) = tgi.decode_models(WireResponse(json.dumps(body).encode()))
    assert (model.id, model.context_length, model.metadata, page) == ("org/m", 4096, {"version": "3.3.6"}, "")
    assert tgi.decode_models(tgi.encode_models([model], 0)) == ([model], "")
    assert tgi.encode_models_request().path == "/info"
    with pytest.raises(Unsupported):
        tgi.encode_models([], 0)


def test_the_routers_models_are_read():
    body = {"object": "list", "data": [{"id": "org/a", "object": "model", "owned_by": "org"}, {"id": "org/b"}]}
    models, _ = tgi.decode_models(WireResponse(json.dumps(body).encode()))
    assert [model.id for model in models] == ["org/a", "org/b"]
    with pytest.raises(ByenatosError):
        tgi.decode_models(WireResponse(b"{}"))


def test_tokens_are_counted_of_texts_and_of_conversations():
    raw = tgi.encode_count_request(InferenceRequest((user("Once"),), raw=True))
    assert (raw.path, json.loads(raw.body)) == ("/tokenize", {"inputs": "Once"})
    assert tgi.decode_count_request(raw).messages == (user("Once"),)
    chat = tgi.encode_count_request(InferenceRequest((user("Once"),)))
    assert chat.path == "/chat_tokenize"
    assert tgi.decode_count_request(chat).messages == (user("Once"),)
    tokens = [{"id": 1, "text": "On", "start": 0, "stop": 2}, {"id": 2, "text": "ce", "start": 2, "stop": 4}]
    assert tgi.decode_count(WireResponse(json.dumps(tokens).encode())) == TokenCount(2)
    chat_tokens = {"tokenize_response": tokens, "templated_text": "x"}
    assert tgi.decode_count(WireResponse(json.dumps(chat_tokens).encode())) == TokenCount(2)
    with pytest.raises(UpstreamFailed):
        tgi.decode_count(WireResponse(b"{}"))
    with pytest.raises(InvalidRequest):
        tgi.decode_count(WireResponse(b'{"error": "x", "error_type": "validation"}', 422))
    with pytest.raises(Unsupported, match="their number only"):
        tgi.encode_count(TokenCount(2))


def test_vectors_are_read_and_written():
    request = EmbeddingRequest(("a", "b"), dimensions=64, extra={"normalize": True, "num_ctx": 1})
    wire = tgi.encode_embedding_request(request)
    assert json.loads(wire.body) == {"inputs": ["a", "b"], "normalize": True, "dimensions": 64}
    assert tgi.decode_embedding_request(wire) == replace(request, extra={"normalize": True})
    vectors = EmbeddingResponse(((0.5, -1.0), (1.0, 0.0)), usage=Usage(None, 0))
    assert tgi.decode_embedding_response(tgi.encode_embedding_response(vectors, CHAT, wire)) == vectors
    assert tgi.decode_embedding_response(WireResponse(b"[0.5, 1]")).vectors == ((0.5, 1.0),)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"error": "x", "error_type": "Validation"}', 413, InvalidRequest),
        (b'{"error": "x"}', 200, UpstreamFailed),
        (b"[[[0.5]]]", 200, UpstreamFailed),
        (b'[["x"]]', 200, UpstreamFailed),
        (b"<html>", 200, UpstreamFailed),
    ],
)
def test_vectors_that_are_none_are_refused(body, status, error):
    with pytest.raises(error):
        tgi.decode_embedding_response(WireResponse(body, status))


def test_a_request_for_no_vectors_is_refused():
    with pytest.raises(InvalidRequest, match="inputs: expected at least one"):
        tgi.decode_embedding_request(WireRequest("/", b"{}"))
