"""The table of routes: exact paths, patterns, and what else there is at a path."""

import pytest

from byenatos_sdk.formats import gemini, openai_chat
from http_front.exchange import Request
from http_front.routes import Routes


async def nothing(_):
    raise AssertionError


@pytest.fixture
def routes():
    routes = Routes()
    routes.add("GET", "/v1/models", nothing, openai_chat)
    routes.add("GET", "/v1/models/{model...}", nothing, openai_chat)
    routes.add("POST", "/v1/models/{model...}:count", nothing, gemini, "admin")
    routes.add("GET", "/slots/{slot}", nothing, openai_chat)
    routes.add("POST", "/slots/{slot}/swap", nothing, openai_chat)
    return routes


@pytest.mark.parametrize(
    ("method", "target", "path", "parameters"),
    [
        ("GET", "/v1/models", "/v1/models", {}),
        ("HEAD", "/v1/models?key=x", "/v1/models", {}),
        ("GET", "/v1/models/org%2Fname:latest", "/v1/models/{model...}", {"model": "org/name:latest"}),
        ("POST", "/v1/models/a:b:count", "/v1/models/{model...}:count", {"model": "a:b"}),
        ("GET", "/v1/models/a:count", "/v1/models/{model...}", {"model": "a:count"}),
        ("GET", "/slots/a", "/slots/{slot}", {"slot": "a"}),
        ("POST", "/slots/a/swap", "/slots/{slot}/swap", {"slot": "a"}),
    ],
)
def test_the_first_pattern_that_has_the_method_counts(routes, method, target, path, parameters):
    request = Request(method, target, {})
    found = routes.find(request)
    assert found is not None
    assert found.path == path
    assert request.parameters == parameters


@pytest.mark.parametrize("target", ["/", "/v1/models/", "/slots/", "/slots/a/b", "/slots//swap", "/v1/model"])
def test_other_paths_are_nowhere(routes, target):
    request = Request("GET", target, {})
    assert routes.find(request) is None
    assert routes.methods(request) == {}


def test_what_else_there_is_at_a_path_is_known(routes):
    assert set(routes.methods(Request("PUT", "/v1/models/a:count", {}))) == {"GET", "POST"}
    assert routes.find(Request("PUT", "/v1/models/a:count", {})) is None
    assert routes.find(Request("POST", "/v1/models/a:count", {})).access == "admin"
