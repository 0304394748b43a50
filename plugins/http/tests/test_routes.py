"""The table of routes: exact paths, patterns, and what else there is at a path."""

import pytest

from byenatos_sdk.formats import gemini, openai_chat
from http_front.exchange import Request, Response
from http_front.routes import Routes


async def nothing(_: Request) -> Response:
    raise AssertionError


@pytest.fixture
def routes() -> Routes:
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
        ("GET", "/v1/models/a%0Ab", "/v1/models/{model...}", {"model": "a\nb"}),
        ("POST", "/v1/models/a:b:count", "/v1/models/{model...}:count", {"model": "a:b"}),
        ("GET", "/v1/models/a:count", "/v1/models/{model...}", {"model": "a:count"}),
        ("GET", "/slots/a", "/slots/{slot}", {"slot": "a"}),
        ("POST", "/slots/a/swap", "/slots/{slot}/swap", {"slot": "a"}),
    ],
)
def test_the_first_pattern_that_has_the_method_counts(
    routes: Routes, method: str, target: str, path: str, parameters: dict[str, str]
) -> None:
    request = Request(method, target, {})
    found = routes.find(request)
    assert found is not None
    assert found.path == path
    assert request.parameters == parameters


@pytest.mark.parametrize(
    ("method", "target", "path", "tidied"),
    [
        ("GET", "/v1/models/?a=b/", "/v1/models", "/v1/models?a=b/"),
        ("GET", "/v1//models", "/v1/models", "/v1/models"),
        ("GET", "/v1//models//", "/v1/models", "/v1/models"),
        ("GET", "/v1//models/org//name", "/v1/models/{model...}", "/v1/models/org//name"),
        ("GET", "/v1/models/org/name/", "/v1/models/{model...}", "/v1/models/org/name/"),
        ("POST", "/slots/a/swap/", "/slots/{slot}/swap", "/slots/a/swap"),
    ],
)
def test_a_slash_too_many_means_nothing(routes: Routes, method: str, target: str, path: str, tidied: str) -> None:
    request = Request(method, target, {})
    found = routes.find(request)
    assert found is not None
    assert (found.path, request.target) == (path, tidied)


@pytest.mark.parametrize("target", ["/", "/slots/", "/slots/a/b", "/slots//swap", "/v1/model"])
def test_other_paths_are_nowhere(routes: Routes, target: str) -> None:
    request = Request("GET", target, {})
    assert routes.find(request) is None
    assert routes.methods(request) == {}


def test_what_else_there_is_at_a_path_is_known(routes: Routes) -> None:
    assert set(routes.methods(Request("PUT", "/v1/models/a:count", {}))) == {"GET", "POST"}
    assert routes.find(Request("PUT", "/v1/models/a:count", {})) is None
    found = routes.find(Request("POST", "/v1/models/a:count", {}))
    assert found is not None
    assert found.access == "admin"


def test_what_is_nowhere_is_said_in_the_words_of_the_api_whose_path_it_would_be(routes: Routes) -> None:
    routes.claim("/v1/models/", gemini)
    assert routes.spoken_at("/v1/models/") is gemini
    assert routes.spoken_at("/v1/model") is None
