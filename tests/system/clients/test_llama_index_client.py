"""LlamaIndex against the front."""

import json

import pydantic
import pytest

like = pytest.importorskip("llama_index.llms.openai_like", reason="LlamaIndex is not installed (extra `clients`)")
vectors = pytest.importorskip("llama_index.embeddings.openai_like", reason="LlamaIndex is not installed")

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "default"


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture
def model(url):
    return like.OpenAILike(
        model=MODEL,
        api_base=f"{url}/v1",
        api_key="any",
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
        context_window=4096,
    )


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


def test_a_chat_is_answered(model, script):
    said = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=script(text="Hello you"))]
    assert model.chat(said).message.content == "Hello you"
    assert model.complete(script(text="Hello you")).text == "Hello you"


def test_a_chat_is_streamed(model, script):
    said = [ChatMessage(role="user", content=script(text="Hello there, you"))]
    assert "".join(piece.delta or "" for piece in model.stream_chat(said)) == "Hello there, you"


def test_a_tool_is_called(model, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    made = FunctionTool.from_defaults(weather)
    answer = model.chat_with_tools([made], user_msg=script(calls=[call]))
    (called,) = model.get_tool_calls_from_response(answer)
    assert (called.tool_name, called.tool_kwargs) == ("weather", {"city": "Oslo"})
    assert "rain in Oslo" in str(model.predict_and_call([made], user_msg=script(calls=[call])))


def test_structured_output_is_parsed(model, script):
    shaped = model.as_structured_llm(Person)
    prompt = script(calls=[{"name": "Person", "arguments": {"name": "Ada", "age": 36}}])
    assert shaped.chat([ChatMessage(role="user", content=prompt)]).raw == Person(name="Ada", age=36)


def test_a_text_is_completed(url, script):
    made = like.OpenAILike(model=MODEL, api_base=f"{url}/v1", api_key="any", is_chat_model=False, max_retries=0)
    assert made.complete(script(text="and so on")).text == "and so on"
    asked = json.loads(made.complete(script(asked=True)).text)
    assert asked["raw"] is True


def test_texts_become_vectors(url):
    made = vectors.OpenAILikeEmbedding(model_name=MODEL, api_base=f"{url}/v1", api_key="any")
    assert len(made.get_text_embedding("one")) == 8
    assert [len(one) for one in made.get_text_embedding_batch(["one", "two"])] == [8, 8]


async def test_a_chat_is_awaited(model, script):
    said = [ChatMessage(role="user", content=script(text="Hello there"))]
    assert (await model.achat(said)).message.content == "Hello there"
    stream = await model.astream_chat(said)
    assert "".join([piece.delta or "" async for piece in stream]) == "Hello there"
