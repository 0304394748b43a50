"""LiteLLM as a client of the front, by each vendor's API."""

import json

import pytest

litellm = pytest.importorskip("litellm", reason="litellm is not installed (extra `clients`)")

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "default"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(params=["openai", "anthropic", "ollama_chat", "gemini"])
def asked(request, url):
    base = {"openai": f"{url}/v1", "gemini": f"{url}/v1beta"}.get(request.param, url)
    return {"model": f"{request.param}/{MODEL}", "api_base": base, "api_key": "any", "num_retries": 0}


def said(prompt):
    return [{"role": "user", "content": prompt}]


def test_a_chat_is_answered(asked, script):
    answer = litellm.completion(messages=said(script(text="Hello there")), **asked)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage.completion_tokens == 5


def test_a_chat_is_streamed(asked, script):
    stream = litellm.completion(messages=said(script(text="Hello there, you")), stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello there, you"


def test_a_tool_is_called(asked, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = litellm.completion(messages=said(script(calls=[call])), tools=[WEATHER], **asked)
    (called,) = answer.choices[0].message.tool_calls
    assert (called.function.name, json.loads(called.function.arguments)) == ("weather", {"city": "Oslo"})


def test_texts_become_vectors(url):
    made = litellm.embedding(model=f"openai/{MODEL}", input=["one"], api_base=f"{url}/v1", api_key="any")
    assert len(made.data[0]["embedding"]) == 8


def test_a_response_is_made(url, script):
    answer = litellm.responses(model=f"openai/{MODEL}", input=script(text="Hi"), api_base=f"{url}/v1", api_key="any")
    assert answer.output[0].content[0].text == "Hi"


def test_an_error_has_its_class(asked, script):
    with pytest.raises(litellm.RateLimitError, match="as the script says"):
        litellm.completion(messages=said(script(fail={"code": "rate_limited"})), **asked)
