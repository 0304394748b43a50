"""instructor against the front: values of a type out of a model's words, in each of its ways."""

import pydantic
import pytest

instructor = pytest.importorskip("instructor", reason="instructor is not installed (extra `clients`)")

import anthropic
import openai

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL = "default"
ADA = '{"name": "Ada", "age": 36}'


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


def made(url, mode):
    return instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="any"), mode=mode)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON", "JSON_SCHEMA", "MD_JSON"])
def test_a_value_is_made(url, script, mode):
    call = {"name": "Person", "arguments": {"name": "Ada", "age": 36}}
    step = {"calls": [call]} if mode == "TOOLS" else {"text": ADA}
    found = made(url, instructor.Mode[mode]).chat.completions.create(
        model=MODEL, response_model=Person, messages=[{"role": "user", "content": script(**step)}], max_retries=0
    )
    assert found.model_dump() == {"name": "Ada", "age": 36}


def test_a_value_that_does_not_fit_is_asked_for_again(url, script):
    wrong, right = ({"calls": [{"name": "Person", "arguments": {"name": "Ada", "age": age}}]} for age in ("old", 36))
    found = made(url, instructor.Mode.TOOLS).chat.completions.create(
        model=MODEL, response_model=Person, messages=[{"role": "user", "content": script(wrong, right)}], max_retries=2
    )
    assert found.age == 36


def test_a_value_grows_while_it_is_streamed(url, script):
    stream = made(url, instructor.Mode.JSON).chat.completions.create_partial(
        model=MODEL, response_model=Person, messages=[{"role": "user", "content": script(text=ADA)}]
    )
    assert list(stream)[-1].name == "Ada"


def test_a_value_is_made_by_anthropics_api(url, script):
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=url, api_key="any"))
    prompt = script(calls=[{"name": "Person", "arguments": {"name": "Ada", "age": 36}}])
    found = client.messages.create(
        model=MODEL, max_tokens=100, response_model=Person, messages=[{"role": "user", "content": prompt}]
    )
    assert found.model_dump() == {"name": "Ada", "age": 36}
