"""OpenAI's driver against what OpenAI's APIs answer."""

import msgspec
from tests.vendor_contract import ASKED, ListingVendorContract, listed_as_openai_does

from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.protocol.messages import EmbeddingRequest

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
LISTED = listed_as_openai_does("gpt-6-astra")


class TestChatCompletions(ListingVendorContract):
    model = "gpt-6.1-terra"
    path = "/v1/chat/completions"
    says = {"model": "gpt-6.1-terra", "messages": MESSAGES, "max_completion_tokens": 50, "stream": True}
    leaves_out = frozenset({"temperature", "max_tokens"})
    stream = "openai_chat/stream-text"
    error = "openai_chat/err-429-quota"
    listed = LISTED

    def test_what_its_reasoning_models_do_not_take_is_in_the_answers_end(self, vendor):
        answer = WireResponse(b'{"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}')
        assert vendor.answer(ASKED, answer)[-1].adapted == ("temperature: dropped: openai_chat has no such parameter",)

    def test_it_makes_embeddings(self, vendor):
        data = [{"index": at, "embedding": [float(at)]} for at in (1, 0)]
        answer = WireResponse(msgspec.json.encode({"data": data, "usage": {"prompt_tokens": 2}}))
        found = vendor.run(lambda driver: driver.embed(EmbeddingRequest(("a", "b"))), answer)
        assert found.vectors == ((0.0,), (1.0,))


class TestResponses(ListingVendorContract):
    model = "gpt-5.4-mini"
    settings = {"api": "openai_responses"}
    path = "/v1/responses"
    says = {"model": "gpt-5.4-mini", "max_output_tokens": 50, "stream": True}
    stream = "openai_responses/stream-text"
    error = "openai_chat/err-401"
    listed = LISTED
