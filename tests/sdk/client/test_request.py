import math

import pytest

from byenatos_sdk.client.request import build_request
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Sampling, Tool, assistant, user


def test_a_text_becomes_one_message_of_the_user():
    assert build_request("Hi", {}) == InferenceRequest((user("Hi"),))


def test_messages_are_taken_as_they_are():
    turns = [user("Hi"), assistant("Hello"), user("Why?")]
    assert build_request(turns, {}).messages == tuple(turns)
    assert build_request(turns[0], {}).messages == (turns[0],)


def test_options_override_the_fields_of_a_whole_request():
    request = InferenceRequest((user("Hi"),), model="coder", sampling=Sampling(top_p=0.5), session="s")
    assert build_request(request, {}) is request
    built = build_request(request, {"model": "default", "temperature": 0, "stop": ["\n"], "tools": [Tool("f")]})
    assert built == InferenceRequest(
        (user("Hi"),),
        model="default",
        sampling=Sampling(top_p=0.5, temperature=0, stop=("\n",)),
        session="s",
        tools=(Tool("f"),),
    )


def test_shortcuts_go_over_an_explicit_sampling():
    built = build_request("Hi", {"sampling": Sampling(temperature=1.0, seed=1), "seed": 2})
    assert built.sampling == Sampling(temperature=1.0, seed=2)


def test_a_misspelt_option_is_named():
    with pytest.raises(TypeError, match="found temprature"):
        build_request("Hi", {"temprature": 0.5})


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["timeout_s", "gap_timeout_s"])
def test_a_time_limit_must_be_a_positive_number(name, limit):
    with pytest.raises(InvalidRequest, match=f"expected {name} to be a positive number"):
        build_request("Hi", {name: limit})


def test_a_stop_text_is_not_taken_for_its_letters():
    with pytest.raises(TypeError, match="write stop="):
        build_request("Hi", {"stop": "END"})


def test_other_prompts_are_refused():
    with pytest.raises(TypeError, match="found a dict"):
        build_request([{"role": "user"}], {})
