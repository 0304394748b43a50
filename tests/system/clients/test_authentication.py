"""Keys: every client carries one in its own way, and hears of a wrong one in its own words."""

import hashlib

import anthropic
import httpx
import huggingface_hub
import ollama
import openai
import pytest
from google import genai
from google.genai import errors, types
from huggingface_hub.errors import HfHubHTTPError

from byenatos_sdk.home import Home

KEY = "sk-of-this-test"
OTHER = "sk-of-somebody-else"
MODEL = "default"


@pytest.fixture(scope="module")
def url(serve_front, tmp_path_factory):
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in (("tester", KEY), ("other", OTHER))}
    access = "".join(f'[[clients]]\nname = "{name}"\nsha256 = "{digest}"\n' for name, digest in digests.items())
    served = serve_front(Home(tmp_path_factory.mktemp("keys") / "home"), access=access)
    yield served.url
    served.kernel.clean_up()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"x-goog-api-key": KEY},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1beta/models", "/api/tags"])
def test_a_key_may_come_in_any_vendors_header_at_any_path(url, headers, path):
    assert httpx.get(f"{url}{path}", headers=headers, trust_env=False).status_code == 200
    wrong = {name: value.replace(KEY, "sk-wrong") for name, value in headers.items()}
    for refused in (wrong, {}):
        answer = httpx.get(f"{url}{path}", headers=refused, trust_env=False)
        assert answer.status_code == 401
        assert KEY not in answer.text


def test_a_key_may_come_in_the_query(url):
    assert httpx.get(f"{url}/v1beta/models?key={KEY}", trust_env=False).status_code == 200


def test_openais_client(url, script):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
        messages = [{"role": "user", "content": script(text="Hi")}]
        assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content == "Hi"
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as failed:
            client.models.list()
        assert failed.value.code == "invalid_api_key"
        assert failed.value.response.headers["www-authenticate"] == "Bearer"
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True)


def test_azures_client(url, script):
    with openai.AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="2024-10-21") as client:
        messages = [{"role": "user", "content": script(text="Hi")}]
        assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content == "Hi"
        assert len(client.embeddings.create(model=MODEL, input="x").data) == 1


def test_anthropics_client(url, script):
    asked = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": script(text="Hi")}]}
    for given in ({"api_key": KEY}, {"auth_token": KEY}):
        with anthropic.Anthropic(base_url=url, **given) as client:
            assert client.messages.create(**asked).content[0].text == "Hi"
    with (
        anthropic.Anthropic(base_url=url, api_key="sk-wrong") as client,
        pytest.raises(anthropic.AuthenticationError) as failed,
    ):
        client.messages.create(**asked)
    assert failed.value.body["error"]["type"] == "authentication_error"
    with (
        anthropic.Anthropic(base_url=url, api_key="sk-wrong") as client,
        pytest.raises(anthropic.AuthenticationError) as failed,
    ):
        client.models.list()
    assert failed.value.body["error"]["type"] == "authentication_error"


def test_googles_client(url, script):
    options = types.HttpOptions(base_url=url)
    with genai.Client(api_key=KEY, http_options=options) as client:
        assert client.models.generate_content(model=MODEL, contents=script(text="Hi")).text == "Hi"
    with (
        genai.Client(api_key="sk-wrong", http_options=options) as client,
        pytest.raises(errors.ClientError) as failed,
    ):
        client.models.generate_content(model=MODEL, contents="Hi")
    assert failed.value.code in {400, 401}


def test_ollamas_client(url, script):
    with ollama.Client(host=url, headers={"authorization": f"Bearer {KEY}"}) as client:
        messages = [{"role": "user", "content": script(text="Hi")}]
        assert client.chat(model=MODEL, messages=messages).message.content == "Hi"
    with ollama.Client(host=url) as client, pytest.raises(ollama.ResponseError) as failed:
        client.list()
    assert failed.value.status_code == 401


def test_hugging_faces_client(url, script):
    messages = [{"role": "user", "content": script(text="Hi")}]
    with huggingface_hub.InferenceClient(base_url=f"{url}/v1", api_key=KEY) as client:
        assert client.chat_completion(messages=messages).choices[0].message.content == "Hi"
    with (
        huggingface_hub.InferenceClient(base_url=f"{url}/v1", api_key="sk-wrong") as client,
        pytest.raises(HfHubHTTPError) as failed,
    ):
        client.chat_completion(messages=messages)
    assert failed.value.response.status_code == 401


def test_an_answer_belongs_to_the_key_that_asked_for_it(url, script):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
        answer = client.responses.create(model=MODEL, input=script(text="Hi"))
        assert client.responses.retrieve(answer.id).output_text == "Hi"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=OTHER) as client, pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_a_conversation_belongs_to_the_key_that_made_it(url, script):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
        made = client.conversations.create(items=[{"role": "user", "content": "Hi"}])
        (item,) = client.conversations.items.list(made.id)
        answer = client.responses.create(model=MODEL, conversation=made.id, input=script(text="Hi"))
    reference = [{"type": "item_reference", "id": answer.output[0].id}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key=OTHER) as client:
        for touch in (
            lambda: client.conversations.retrieve(made.id),
            lambda: client.conversations.update(made.id, metadata={}),
            lambda: client.conversations.delete(made.id),
            lambda: client.conversations.items.retrieve(item.id, conversation_id=made.id),
            lambda: client.conversations.items.delete(item.id, conversation_id=made.id),
            lambda: client.responses.create(model=MODEL, conversation=made.id, input="Hi"),
            lambda: client.responses.create(model=MODEL, input=reference),
        ):
            with pytest.raises(openai.NotFoundError):
                touch()
