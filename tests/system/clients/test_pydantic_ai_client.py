"""pydantic-ai against the front, by each vendor's API."""

import pydantic
import pytest

ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed (extra `clients`)")

from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "default"


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(params=["chat", "responses", "anthropic", "google"])
def model(request, url):
    match request.param:
        case "chat":
            return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="any"))
        case "responses":
            return OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="any"))
        case "anthropic":
            if tuple(map(int, ai.__version__.split(".")[:2])) < (2, 60):
                pytest.skip(f"pydantic-ai {ai.__version__} cannot use the client of Anthropic's that is here")
            return AnthropicModel(MODEL, provider=AnthropicProvider(base_url=url, api_key="any"))
        case _:
            from pydantic_ai.models.google import GoogleModel
            from pydantic_ai.providers.google import GoogleProvider

            return GoogleModel(MODEL, provider=GoogleProvider(base_url=url, api_key="any"))


async def test_a_question_is_answered(model, script):
    agent = ai.Agent(model, instructions="Be brief.")
    answer = await agent.run(script(text="Hello there"))
    assert answer.output == "Hello there"


async def test_an_answer_is_streamed(model, script):
    async with ai.Agent(model).run_stream(script(text="Hello there, you")) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == "Hello there, you"


async def test_a_tool_is_called_until_the_answer_is_there(model, script):
    agent = ai.Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"rain in {city}"

    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = await agent.run(script({"calls": [call]}, {"asked": True}))
    assert "rain in Oslo" in answer.output


async def test_a_value_is_made_by_a_tool(model, script):
    agent = ai.Agent(model, output_type=Person)
    prompt = script(calls=[{"name": "final_result", "arguments": {"name": "Ada", "age": 36}}])
    assert (await agent.run(prompt)).output == Person(name="Ada", age=36)


async def test_a_value_is_made_by_a_schema(model, script):
    if isinstance(model, AnthropicModel):
        pytest.skip("pydantic-ai decides by the name of Anthropic's models whether they can")
    agent = ai.Agent(model, output_type=ai.NativeOutput(Person))
    assert (await agent.run(script(text='{"name": "Ada", "age": 36}'))).output == Person(name="Ada", age=36)


async def test_a_conversation_goes_on(model, script):
    agent = ai.Agent(model)
    first = await agent.run(script({"text": "One"}, {"text": "Two"}))
    second = await agent.run("go on", message_history=first.all_messages())
    assert second.output == "Two"
