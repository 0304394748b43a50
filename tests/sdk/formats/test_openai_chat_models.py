"""OpenAI's embeddings and lists of models."""

import json

import pytest
from tests.sdk.formats.chat_dialects import (
    client,
)
from tests.sdk.formats.replay import Answer as Said

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.errors import (
    InvalidRequest,
)
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    ModelSpecification,
    Usage,
)


def test_openai_s_client_gets_vectors_as_it_likes_them(replay):
    vectors = ((1.0, -0.5), (0.25, 2.0))
    response = EmbeddingResponse(vectors, "e", Usage(4, None))
    sent = []
    for encoding in ("float", "base64", None):
        body = {"model": "e", "input": ["a", "b"]} | ({"encoding_format": encoding} if encoding else {})
        wire = WireRequest("/v1/embeddings", json_body(body))
        assert openai_chat.decode_embedding_request(wire).inputs == ("a", "b")
        answer = openai_chat.encode_embedding_response(response, Reply("1", "e", 1), wire)
        assert openai_chat.decode_embedding_response(answer) == response
        sent.append(answer.body)
    assert sent[0] == sent[2] != sent[1]
    replay.answer(WireResponse(sent[1], headers={"content-type": "application/json"}))
    found = client(replay).embeddings.create(model="e", input=["a", "b"])
    assert [tuple(one.embedding) for one in found.data] == list(vectors)
    assert openai_chat.decode_embedding_request(replay.requests[0]).inputs == ("a", "b")
    assert json.loads(replay.requests[0].body)["encoding_format"] == "base64"


def test_a_request_for_vectors_comes_back_as_it_was():
    request = EmbeddingRequest(("a",), "e", 64, {"user": "u"})

    wire = openai_chat.encode_embedding_request(request)

    assert wire.path == "/embeddings"
    assert openai_chat.decode_embedding_request(wire) == request


def test_vectors_are_put_in_the_order_of_their_indices():
    body = {"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}], "usage": {"total_tokens": 3}}

    found = openai_chat.decode_embedding_response(WireResponse(json_body(body)))

    assert (found.vectors, found.usage) == (((1.0,), (2.0,)), Usage(3, None))


@pytest.mark.parametrize("value", [[1, 2], [[1]], [], None, 5])
def test_inputs_that_are_no_texts_are_refused(value):
    with pytest.raises(InvalidRequest, match=r"^input: "):
        openai_chat.decode_embedding_request(WireRequest("/v1/embeddings", json_body({"input": value})))


def test_openai_s_client_lists_the_models(replay):
    models = [ModelSpecification("org/a:b", driver="d"), ModelSpecification("c", metadata={"owned_by": "me"})]
    wire = openai_chat.encode_models(models, 5)
    replay.answer(wire, openai_chat.encode_model(models[1], 5), Said(b"", 404))

    found = list(client(replay).models.list())

    assert [(one.id, one.owned_by, one.created) for one in found] == [("org/a:b", "d", 5), ("c", "me", 5)]
    assert client(replay).models.retrieve("c").id == "c"
    listed, page = openai_chat.decode_models(wire)
    assert ([one.id for one in listed], page) == (["org/a:b", "c"], "")
    assert openai_chat.encode_models_request().path == "/models"


def test_lengths_of_contexts_are_found_where_servers_put_them():
    listed = {"data": [{"id": "a", "max_model_len": 5}, {"id": "b", "meta": {"n_ctx_train": 7}}, {"id": 5}, "x"]}

    models, _ = openai_chat.decode_models(WireResponse(json_body(listed)))

    assert [(one.id, one.context_length) for one in models] == [("a", 5), ("b", 7)]
