"""The vendors' own clients against a real model: SmolLM2 in slot ``default``."""

import asyncio
import enum
import json
import os
import re
from pathlib import Path

import anthropic
import huggingface_hub
import ollama
import openai
import pytest
from google import genai
from google.genai import types
from kernel_process import KernelProcess, until, until_ready, write_config

from byenatos_sdk.home import Home

pytestmark = pytest.mark.model
MODEL = "default"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = os.environ.get("BYENATOS_TEST_MODELS")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder with the real models; `make test` sets it")
    home = Home(tmp_path_factory.mktemp("real") / "home")
    write_config(home, default="smollm2", fronts={"http": {"listen": "127.0.0.1:0"}})
    home.create()
    (home.models / "smollm2.gguf").symlink_to(Path(folder, "smollm2.gguf"))
    kernel = KernelProcess(home)

    async def ready():
        async with kernel.client() as client:
            await until_ready(client)
            status = await until(client, lambda status: status.fronts[0].ready)
            return f"http://{status.fronts[0].address}"

    yield asyncio.run(ready())
    kernel.clean_up()


def said(role="user"):
    return [{"role": role, "content": QUESTION}]


def test_openais_client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        asked = {"model": MODEL, "messages": said(), "temperature": 0, "max_tokens": 20}
        answer = client.chat.completions.create(**asked)
        assert "Paris" in answer.choices[0].message.content
        assert answer.usage.prompt_tokens > 5
        pieces = [
            chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)
        ]
        assert "".join(pieces) == answer.choices[0].message.content
        cut = client.chat.completions.create(**asked | {"max_tokens": 2})
        assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 2)


def test_openais_client_and_its_responses(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        asked = {"model": MODEL, "temperature": 0, "max_output_tokens": 20}
        first = client.responses.create(input=QUESTION, **asked)
        assert "Paris" in first.output_text
        second = client.responses.create(input="And of Italy?", previous_response_id=first.id, **asked)
        assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens


def test_anthropics_client(url):
    with anthropic.Anthropic(base_url=url, api_key="any") as client:
        answer = client.messages.create(model=MODEL, max_tokens=5, messages=said())
        assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 5)
        with client.messages.stream(model=MODEL, max_tokens=5, messages=said()) as stream:
            assert "".join(stream.text_stream) == stream.get_final_message().content[0].text != ""


def test_anthropics_client_and_a_document_of_text(url):
    source = {"type": "text", "media_type": "text/plain", "data": "The capital of France is Paris."}
    content = [{"type": "document", "source": source}, {"type": "text", "text": QUESTION}]
    with anthropic.Anthropic(base_url=url, api_key="any") as client:
        answer = client.messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": content}])
        alone = client.messages.create(model=MODEL, max_tokens=5, messages=said())
    assert _read(answer.usage) > _read(alone.usage) + 5


def _read(usage):
    return usage.input_tokens + usage.cache_read_input_tokens


def test_openais_client_with_tools_and_a_form_of_the_answer(url):
    schema = {"type": "object", "properties": {"sum": {"type": "integer", "maximum": 99}}, "required": ["sum"]}
    add = {"type": "function", "function": {"name": "add", "parameters": schema}}
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        answer = client.chat.completions.create(
            model=MODEL, messages=said(), tools=[add], response_format=form, max_tokens=60, temperature=0
        )
    message = answer.choices[0].message
    written = message.tool_calls[0].function.arguments if message.tool_calls else message.content
    assert isinstance(json.loads(written)["sum"], int)


def test_googles_client(url):
    with genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url)) as client:
        asked = {"model": MODEL, "contents": QUESTION, "config": {"temperature": 0, "max_output_tokens": 20}}
        assert "Paris" in client.models.generate_content(**asked).text
        assert "Paris" in "".join(chunk.text or "" for chunk in client.models.generate_content_stream(**asked))


def test_ollamas_client(url):
    client = ollama.Client(host=url)
    asked = {"model": MODEL, "options": {"temperature": 0, "num_predict": 20}}
    assert "Paris" in client.chat(messages=said(), **asked).message.content
    assert "Paris" in "".join(piece.message.content for piece in client.chat(messages=said(), stream=True, **asked))
    assert client.show(MODEL).details.format == "gguf"
    client._client.close()


def test_hugging_faces_client(url):
    with huggingface_hub.InferenceClient(base_url=url, api_key="any") as client:
        answer = client.chat_completion(messages=said(), max_tokens=20, temperature=0.01)
        assert "Paris" in answer.choices[0].message.content


def test_an_answer_is_held_to_a_form_in_the_words_of_any_server(url):
    class City(enum.Enum):
        LYON = "Lyon"
        PARIS = "Paris"

    config = {"response_mime_type": "text/x.enum", "response_schema": City}
    with genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url)) as client:
        chosen = client.models.generate_content(model=MODEL, contents=QUESTION, config=config)
    assert chosen.text in {"Lyon", "Paris"}
    grammar = {"type": "regex", "value": r"\d{3}-[a-f]{2}"}
    with huggingface_hub.InferenceClient(model=url, token="any") as client:
        assert re.fullmatch(grammar["value"], client.text_generation("Number:", grammar=grammar, max_new_tokens=20))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        for asked, pattern in (({"regex": "[A-Z]{4}"}, "[A-Z]{4}"), ({"choice": ["yes", "no"]}, "yes|no")):
            answer = client.chat.completions.create(
                model=MODEL, messages=said(), extra_body={"structured_outputs": asked}
            )
            assert re.fullmatch(pattern, answer.choices[0].message.content)
        with pytest.raises(openai.BadRequestError, match="structured_outputs"):
            client.chat.completions.create(
                model=MODEL, messages=said(), extra_body={"structured_outputs": {"structural_tag": "{}"}}
            )
