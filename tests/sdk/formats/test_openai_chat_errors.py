"""OpenAI's errors, and the odd ones that servers and proxies answer with."""

import json

import openai
import pytest
from tests.sdk.formats.chat_dialects import (
    asked,
    chat,
    client,
)

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unsupported,
    error_codes,
    error_from_code,
)


@pytest.mark.parametrize("code", error_codes())
def test_an_error_comes_back_as_it_was(code):
    error = error_from_code(code, "what happened", retry_after_s=1.5)

    wire = openai_chat.encode_error(error)
    found = openai_chat.decode_error(wire)

    known = {"unsupported": "invalid_request", "internal": "upstream_failed"}
    assert found.code == known.get(code, code)
    assert (found.message, found.retry_after_s) == ("what happened", 1.5)
    assert found.retryable == error.retryable
    assert wire.status >= 400


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimited("slow", retry_after_s=2), openai.RateLimitError),
        (QuotaExceeded("broke"), openai.RateLimitError),
        (ContextLengthExceeded("long"), openai.BadRequestError),
        (Overloaded("full"), openai.InternalServerError),
        (Unsupported("no"), openai.BadRequestError),
    ],
)
def test_openai_s_client_raises_the_error_of_its_kind(error, kind, replay):
    replay.answer(openai_chat.encode_error(error))

    with pytest.raises(kind) as caught:
        client(replay).chat.completions.create(model="m", messages=[])

    assert caught.value.body["message"] == error.message
    assert caught.value.response.headers["x-should-retry"] == str(error.retryable).lower()
    if error.retry_after_s:
        assert caught.value.response.headers["retry-after"] == "2"


def test_the_field_at_fault_is_named_in_its_place():
    with pytest.raises(InvalidRequest) as caught:
        asked(chat(messages=[{"role": "user", "content": [{"type": "video"}]}]))

    body = json.loads(openai_chat.encode_error(caught.value).body)
    assert body["error"]["param"] == "messages[0].content[0].type"


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "retry_after"),
    [
        (429, {"retry-after": "2"}, {"error": {"code": "rate_limit_exceeded", "message": "x"}}, "rate_limited", 2),
        (429, {"retry-after-ms": "20"}, {"error": {"message": "x"}}, "rate_limited", 0.02),
        (
            429,
            {"x-ratelimit-reset-tokens": "1m30s", "x-ratelimit-remaining-tokens": "0"},
            {"error": {"message": "x"}},
            "rate_limited",
            90,
        ),
        (
            403,
            {},
            {"error": {"code": "unsupported_country_region_territory", "message": "x"}},
            "permission_denied",
            None,
        ),
        (404, {}, {"error": {"code": "model_not_found", "message": "x"}}, "not_found", None),
        (503, {}, {"error": {"message": "x", "type": "server_error"}}, "overloaded", None),
        (
            402,
            {},
            {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}},
            "quota_exceeded",
            None,
        ),
        (422, {}, {"detail": [{"loc": ["body"], "msg": "bad"}]}, "invalid_request", None),
        (500, {}, {"title": "t", "detail": "d"}, "upstream_failed", None),
        (504, {}, "upstream request timeout", "upstream_timeout", None),
        (413, {}, "", "request_too_large", None),
        (400, {}, {"error": {"message": "blocked", "code": "content_filter"}}, "content_filtered", None),
        (400, {}, [{"error": {"message": "prompt is too long: 9 tokens"}}], "context_length_exceeded", None),
    ],
)
def test_odd_errors_are_read(status, headers, body, code, retry_after):
    raw = body.encode() if isinstance(body, str) else json_body(body)

    found = openai_chat.decode_error(WireResponse(raw, status, headers))

    assert (found.code, found.retry_after_s, found.vendor_status) == (code, retry_after, status)


def test_a_vendor_s_word_on_trying_again_counts():
    wire = WireResponse(b'{"error":{"message":"x"}}', 500, {"x-should-retry": "false"})

    assert openai_chat.decode_error(wire).retryable is False
