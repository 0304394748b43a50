"""LangChain against the front, by each of the vendors' packages."""

import json

import pydantic
import pytest

openai = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed (extra `clients`)")
anthropic = pytest.importorskip("langchain_anthropic", reason="langchain-anthropic is not installed (extra `clients`)")
google = pytest.importorskip("langchain_google_genai", reason="langchain-google-genai is not installed")
ollama = pytest.importorskip("langchain_ollama", reason="langchain-ollama is not installed (extra `clients`)")

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

pytestmark = pytest.mark.filterwarnings("ignore")  # what frameworks warn of is not ours
MODEL = "default"


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(params=["openai", "responses", "anthropic", "google", "ollama"])
def model(request, url):
    match request.param:
        case "openai":
            return openai.ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="any", max_retries=0)
        case "responses":
            # A path of its own: LangChain keeps one pool of connections per address, and each test has its own loop.
            return openai.ChatOpenAI(
                model=MODEL, base_url=f"{url}/v1/", api_key="any", max_retries=0, use_responses_api=True
            )
        case "anthropic":
            return anthropic.ChatAnthropic(model=MODEL, base_url=url, api_key="any", max_retries=0, max_tokens=100)
        case "google":
            return google.ChatGoogleGenerativeAI(model=MODEL, base_url=url, google_api_key="any", max_retries=1)
        case _:
            return ollama.ChatOllama(model=MODEL, base_url=url)


def test_a_question_is_answered(model, script):
    answer = model.invoke([SystemMessage("Be brief."), HumanMessage(script(text="Hello there"))])
    assert answer.text == "Hello there"
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == (7, 5)


def test_an_answer_is_streamed(model, script):
    pieces = list(model.stream(script(text="Hello there, you")))
    assert "".join(piece.text for piece in pieces) == "Hello there, you"
    assert len(pieces) > 1


def test_a_tool_is_called_and_its_result_is_answered(model, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    bound = model.bind_tools([weather])
    said = [HumanMessage(script({"calls": [call]}, {"text": "It rains."}))]
    first = bound.invoke(said)
    (called,) = first.tool_calls
    assert (called["name"], called["args"]) == ("weather", {"city": "Oslo"})
    result = ToolMessage(weather.invoke(called["args"]), tool_call_id=called["id"])
    assert bound.invoke([*said, first, result]).text == "It rains."


def test_calls_are_streamed(model, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    whole = None
    for piece in model.bind_tools([weather]).stream(script(text="Hm", calls=[call])):
        whole = piece if whole is None else whole + piece
    assert [(one["name"], one["args"]) for one in whole.tool_calls] == [("weather", {"city": "Oslo"})]


def test_structured_output_by_a_tool_is_parsed(model, script):
    shaped = model.with_structured_output(Person, method="function_calling")
    prompt = script(calls=[{"name": "Person", "arguments": {"name": "Ada", "age": 36}}])
    assert shaped.invoke(prompt) == Person(name="Ada", age=36)


def test_structured_output_by_a_schema_is_parsed(model, script):
    shaped = model.with_structured_output(Person, method="json_schema")
    assert shaped.invoke(script(text='{"name": "Ada", "age": 36}')) == Person(name="Ada", age=36)


async def test_an_answer_is_awaited(model, script):
    answer = await model.ainvoke(script(text="Hello there"))
    assert answer.text == "Hello there"


def test_texts_become_vectors(url):
    made = openai.OpenAIEmbeddings(model=MODEL, base_url=f"{url}/v1", api_key="any", check_embedding_ctx_length=False)
    assert [len(one) for one in made.embed_documents(["a", "b"])] == [8, 8]
    assert len(ollama.OllamaEmbeddings(model=MODEL, base_url=url).embed_query("a")) == 8
    google_made = google.GoogleGenerativeAIEmbeddings(model=MODEL, base_url=url, google_api_key="any")
    assert len(google_made.embed_query("a")) == 8


def test_a_text_is_completed(url, script):
    made = openai.OpenAI(model=MODEL, base_url=f"{url}/v1", api_key="any")
    assert made.invoke(script(text="and so on")) == "and so on"
    assert "".join(made.stream(script(text="and so on"))) == "and so on"
    asked = json.loads(made.invoke(script(asked=True)))
    assert asked["raw"] is True


def test_an_error_is_raised(model, script):
    with pytest.raises(Exception, match="as the script says"):
        model.invoke(script(fail={"code": "invalid_request"}))
