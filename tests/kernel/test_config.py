"""The operator's configuration: whatever the file holds, it is understood or refused by name."""

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from byenatos_kernel.config import MAX_CONFIG, NOT_IN_FORCE, Config, ConfigError, DriverConfig, ModelConfig, read_config
from byenatos_sdk.protocol.frames import encode

FULL = {
    "llm_driver_config": {
        "max_concurrent_models": 3,
        "default_model": "smollm2",
        "fallback_model": "gemma-3-270m",
        "load_balance_strategy": "least_loaded",
        "health_check_interval": 30,
        "auto_optimization": False,
    },
    "model_config": {
        "model_id": "smollm2",
        "vendor": "llamacpp",
        "api_key": "${NAME}",
        "max_tokens": 512,
        "temperature": 0.7,
        "timeout": 120,
        "rate_limit": 60,
        "settings": {"n_ctx": 4096},
    },
    "slots": {"coder": "gemma-3-270m"},
}
MODEL = FULL["model_config"]


@pytest.fixture
def read(tmp_path):
    def write_and_read(content) -> Config:
        path = tmp_path / "config.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_config(path)

    return write_and_read


def test_a_file_that_does_not_exist_means_all_defaults(tmp_path):
    assert read_config(tmp_path / "config.json") == Config()
    assert Config().bindings == {}


def test_every_key_is_understood(read):
    config = read(FULL)
    assert config.driver.fallback_model == "gemma-3-270m"
    assert config.models == [ModelConfig(**MODEL)]
    assert config.bindings == {"default": "smollm2", "coder": "gemma-3-270m"}


def test_the_models_may_be_a_list(read):
    config = read({"model_config": [MODEL, {**MODEL, "model_id": "other"}]})
    assert [model.model_id for model in config.models] == ["smollm2", "other"]


def test_each_key_that_is_set_but_not_acted_on_has_its_sentence(read):
    assert [sentence.partition(" ")[0] for sentence in read(FULL).not_in_force()] == list(NOT_IN_FORCE)
    assert all("is not yet in force: " in sentence for sentence in read(FULL).not_in_force())
    assert read({"llm_driver_config": {"default_model": "x"}}).not_in_force() == ()


def test_the_keys_that_are_not_in_force_exist():
    known = {"llm_driver_config": DriverConfig, "model_config": ModelConfig}
    for name in NOT_IN_FORCE:
        section, _, key = name.partition(".")
        assert key in known[section].__struct_fields__


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"slot": {}}, ["unknown field `slot`", "expected one of llm_driver_config, model_config, slots"]),
        ({"llm_driver_config": {"default": 1}}, ["llm_driver_config: ", "`default`", "default_model"]),
        ({"model_config": {**MODEL, "modle": 1}}, ["model_config: ", "`modle`", "expected one of model_id"]),
        ({"model_config": [MODEL, {**MODEL, "modle": 1}]}, ["model_config[1]: ", "`modle`", "model_id"]),
        ({"model_config": {"vendor": "x"}}, ["model_config: ", "missing required field `model_id`"]),
        ({"model_config": {**MODEL, "max_tokens": "many"}}, ["model_config.max_tokens: Expected `int", "got `str`"]),
        ({"model_config": {**MODEL, "max_tokens": 0}}, ["model_config.max_tokens: ", ">= 1", "found 0"]),
        ({"model_config": {**MODEL, "temperature": 3}}, ["model_config.temperature: ", "<= 2", "found 3"]),
        ({"model_config": {**MODEL, "timeout": 0}}, ["model_config.timeout: ", "> 0", "found 0"]),
        ({"model_config": {**MODEL, "rate_limit": {"a": -1}}}, ["model_config.rate_limit", ">= 0", "found -1"]),
        ({"llm_driver_config": {"max_concurrent_models": True}}, ["max_concurrent_models: ", "`int`", "got `bool`"]),
        ({"llm_driver_config": {"default_model": ""}}, ["default_model: ", "length >= 1", "found ''"]),
        ({"slots": {"coder": ""}}, ["slots", "coder", "length >= 1", "found ''"]),
        ({"slots": {"coder": 5}}, ["slots", "coder", "`str`", "got `int`"]),
        ({"slots": {"": "x"}}, ["slots", "length >= 1"]),
        ([], ["Expected `object`, got `array`"]),
        ("{", ["not valid JSON", "line 1"]),
        ('{"slots": {"a": "b", "a": "c"}}', ["the key 'a' stands twice"]),
        ('{"slots": {}, "slots": {}}', ["the key 'slots' stands twice"]),
        ('{"model_config": {"model_id": "a", "vendor": "b", "temperature": NaN}}', ["not valid JSON", "NaN"]),
        ('{"slots": {"a": "\\ud800"}}', ["Unicode"]),
        ({"model_config": {**MODEL, "settings": {"seed": 1 << 64}}}, ["64 bits"]),
        ({"model_config": {**MODEL, "max_tokens": 1 << 64}}, ["64 bits"]),
        (b"\xff\xfe", ["not valid JSON"]),
        (b" " * (MAX_CONFIG + 1), [f"at most {MAX_CONFIG} bytes"]),
        ({"model_config": [MODEL, MODEL]}, ["model_config: ", "each model once", "'smollm2' twice"]),
        (
            {"llm_driver_config": {"default_model": "a"}, "slots": {"default": "b"}},
            ["slots.default: ", "expected 'a'", "found 'b'"],
        ),
    ],
)
def test_an_error_names_the_file_the_key_what_was_expected_and_what_was_found(read, tmp_path, content, parts):
    with pytest.raises(ConfigError) as caught:
        read(content)
    message = caught.value.message
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    for part in parts:
        assert part in message, message


SECRET = "sk-live-0123456789"


@pytest.mark.parametrize(
    "content",
    [
        {"model_config": {**MODEL, "api_key": SECRET}},
        {"model_config": [MODEL, {**MODEL, "model_id": "other", "api_key": SECRET}]},
        {"model_config": {**MODEL, "api_key": "${NAME}" + SECRET}},
        {"model_config": {**MODEL, "api_key": "${" + SECRET + "}"}},
        {"model_config": {**MODEL, "api_key": [SECRET]}},
        {"model_config": {**MODEL, "api_key": {SECRET: SECRET}}},
        {"llm_driver_config": {"api_key": SECRET}},
        {"api_key": SECRET},
        json.dumps({"model_config": {**MODEL, "api_key": SECRET}})[:-1] + ",}",
    ],
)
def test_a_key_that_stands_in_the_file_is_refused_without_being_shown(read, content):
    with pytest.raises(ConfigError) as caught:
        read(content)
    assert SECRET not in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("${NAME}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def attempt(path: Path) -> Config | str:
    """The configuration, or the message of the one error that may come of it."""
    try:
        return read_config(path)
    except ConfigError as error:
        return error.message


def nearly(example: object):
    """Values shaped like ``example``, with something else in any place, or a key too many."""
    if isinstance(example, dict):
        fields = st.fixed_dictionaries({}, optional={key: nearly(value) for key, value in example.items()})
        return fields | st.builds(lambda a, b: {**a, **b}, fields, st.dictionaries(st.text(max_size=3), json_values))
    return st.just(example) | json_values | st.floats() | st.integers()


@settings(deadline=None, max_examples=400)
@given(nearly(FULL) | json_values | st.lists(nearly(MODEL), max_size=3).map(lambda models: {"model_config": models}))
def test_any_json_is_a_configuration_that_can_travel_or_an_error_that_names_the_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    result = attempt(path)
    if isinstance(result, Config):
        encode([result.driver, result.models, result.bindings])
        result.not_in_force()
    else:
        assert result.startswith(f"{path}: ")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(content)
    result = attempt(path)
    assert isinstance(result, Config) or result.startswith(f"{path}: ")


@pytest.mark.parametrize("depth", [100, 900, 950, 980, 990, 995, 1000, 5000, 100_000])
def test_nesting_without_end_is_refused_or_understood(tmp_path, depth):
    text = json.dumps({"model_config": {**MODEL, "settings": {"deep": "HERE"}}})
    path = tmp_path / "config.json"
    path.write_text(text.replace('"HERE"', "[" * depth + "]" * depth))
    result = attempt(path)
    assert isinstance(result, str) or encode(result.models)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["clients", "worker"])
def test_what_the_kernel_tells_a_front_cannot_be_told_by_the_file(read, name):
    with pytest.raises(ConfigError, match=rf"fronts\.http\.settings\.{name}: expected nothing here"):
        read({"fronts": {"http": {"settings": {name: []}}}})


@pytest.mark.parametrize(
    "listen", ["x", "localhost", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "example.org:80"]
)
def test_a_front_s_address_that_is_none_is_refused_by_name(read, listen):
    with pytest.raises(ConfigError, match=r"fronts\.http\.listen: expected an address like .*, found '" + listen):
        read({"fronts": {"http": {"listen": listen}}})


@pytest.mark.parametrize("listen", ["localhost:0", "127.0.0.1:8421", "[::1]:8421", "0.0.0.0:80"])
def test_a_front_s_address_is_taken_as_it_is_written(read, listen):
    assert read({"fronts": {"http": {"listen": listen}}}).fronts["http"].listen == listen
