"""OpenAI's agents against the front, by responses and by chats."""

import pydantic
import pytest

agents = pytest.importorskip("agents", reason="openai-agents is not installed (extra `clients`)")

import openai

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "default"


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


@agents.function_tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


@pytest.fixture(params=["responses", "chat"])
def model(request, url):
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    kind = agents.OpenAIResponsesModel if request.param == "responses" else agents.OpenAIChatCompletionsModel
    return kind(model=MODEL, openai_client=client)


async def test_a_question_is_answered(model, script):
    agent = agents.Agent(name="a", instructions="Be brief.", model=model)
    answer = await agents.Runner.run(agent, script(text="Hello there"))
    assert answer.final_output == "Hello there"


async def test_a_tool_is_called_until_the_answer_is_there(model, script):
    agent = agents.Agent(name="a", tools=[weather], model=model)
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = await agents.Runner.run(agent, script({"calls": [call]}, {"asked": True}))
    assert "rain in Oslo" in answer.final_output


async def test_an_answer_is_streamed(model, script):
    agent = agents.Agent(name="a", tools=[weather], model=model)
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    run = agents.Runner.run_streamed(agent, script({"calls": [call]}, {"text": "It rains there"}))
    raw = [event.data async for event in run.stream_events() if event.type == "raw_response_event"]
    pieces = [event.delta for event in raw if event.type == "response.output_text.delta"]
    assert "".join(pieces) == run.final_output == "It rains there"


async def test_a_value_is_made(model, script):
    agent = agents.Agent(name="a", output_type=Person, model=model)
    answer = await agents.Runner.run(agent, script(text='{"name": "Ada", "age": 36}'))
    assert answer.final_output == Person(name="Ada", age=36)


async def test_one_agent_hands_over_to_another(model, script):
    other = agents.Agent(name="other", model=model)
    agent = agents.Agent(name="a", handoffs=[other], model=model)
    answer = await agents.Runner.run(agent, script({"calls": [{"name": "transfer_to_other"}]}, {"text": "Here"}))
    assert (answer.final_output, answer.last_agent.name) == ("Here", "other")


async def test_a_run_goes_on_from_the_last_answer_that_the_server_keeps(url, script):
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    agent = agents.Agent(name="a", model=agents.OpenAIResponsesModel(model=MODEL, openai_client=client))
    first = await agents.Runner.run(agent, script({"text": "One"}, {"text": "Two"}))
    second = await agents.Runner.run(agent, "go on", previous_response_id=first.last_response_id)
    assert second.final_output == "Two"
