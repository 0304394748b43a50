"""Who is let in: names and pages, keys in every style, roles, and how often."""

import hmac
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.errors import ByenatosError, PermissionDenied, Unauthenticated
from http_front import guard as guards
from http_front.clients import EVERYBODY, Client, digest_of
from http_front.exchange import Request
from http_front.guard import Guard, credentials

ADMIN = Client("boss", digest_of("key-of-boss"), role="admin")
EDITOR = Client("editor", digest_of("key-of-editor"), slots=("coder",), per_minute=3)


def request(target: str = "/v1/models", host: str | None = "localhost:8421", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", target, {"host": host, **named} if host is not None else named)


OPEN = Guard((), ("box.lan",))
LOCKED = Guard((ADMIN, EDITOR), ())


# ---- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:80",
        "127.0.0.1:8421",
        "[::1]:8421",
        "[::1]",
        "192.168.1.7:8421",
        "[fe80::1]:1",
        "Box.LAN:9",
    ],
)
def test_names_and_addresses_of_this_machine_are_answered(host: str) -> None:
    assert OPEN.admit(request(host=host)) is EVERYBODY


@pytest.mark.parametrize(
    "host",
    ["", None, "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "box.lan.", "localhost:80:80",
     "evil.example:127", "[::1].evil.example", "[::1"],
)  # fmt: skip
@pytest.mark.parametrize("guard", [OPEN, LOCKED])
def test_names_that_anybody_may_point_here_are_refused_whatever_key_there_is(host: str, guard: Guard) -> None:
    with pytest.raises(PermissionDenied, match="host"):
        guard.admit(request(host=host, x_api_key="key-of-boss"), "open")


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173", "http://box.lan"]
)
def test_pages_of_this_machine_are_answered(origin: str) -> None:
    assert OPEN.admit(request(origin=origin)) is EVERYBODY


def test_a_page_that_came_from_the_host_that_is_asked_is_answered() -> None:
    assert OPEN.admit(request(host="192.168.1.7:8421", origin="http://192.168.1.7:8421")) is EVERYBODY


@pytest.mark.parametrize(
    "origin", ["null", "", "https://evil.example", "http://localhost.evil.example", "192.168.1.7", "http://192.168.1.8"]
)
def test_pages_of_others_are_refused_whatever_key_they_have(origin: str) -> None:
    for guard in (OPEN, LOCKED):
        with pytest.raises(PermissionDenied, match="origin"):
            guard.admit(request(host="192.168.1.7", origin=origin, x_api_key="key-of-boss"))


@pytest.mark.parametrize("guard", [OPEN, LOCKED])
def test_what_a_page_of_another_site_loads_without_saying_whose_it_is_is_refused(guard: Guard) -> None:
    with pytest.raises(PermissionDenied, match="sec-fetch-site"):
        guard.admit(request(x_api_key="key-of-boss", sec_fetch_site="cross-site", sec_fetch_mode="no-cors"))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors", "origin": "http://localhost:3000"},
    ],
)
def test_links_and_pages_of_this_machine_are_answered(headers: dict[str, str]) -> None:
    assert OPEN.admit(request(**headers)) is EVERYBODY


# ---- keys --------------------------------------------------------------------------------------------------------

STYLES = {
    "bearer": {"authorization": "Bearer key-of-boss"},
    "bearer in small letters": {"authorization": "bearer  key-of-boss "},
    "anthropic": {"x_api_key": "key-of-boss"},
    "azure": {"api_key": "key-of-boss"},
    "google": {"x_goog_api_key": "key-of-boss"},
    "a dummy beside it": {"authorization": "Bearer dummy", "x_api_key": "key-of-boss"},
}


@pytest.mark.parametrize("headers", STYLES.values(), ids=STYLES)
def test_a_key_is_found_in_every_style(headers: dict[str, str]) -> None:
    assert LOCKED.admit(request(**headers)) is ADMIN


def test_a_key_is_found_in_the_query() -> None:
    assert LOCKED.admit(request("/v1beta/models?key=key-of-boss&alt=sse")) is ADMIN


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer"}, {"authorization": "Bearer "}, {"authorization": "Basic key-of-boss"},
     {"authorization": "key-of-boss"}, {"x_api_key": ""}, {"x_api_key": ADMIN.sha256}, {"x_api_key": "key-of-bos"},
     {"cookie": "key=key-of-boss"}],
)  # fmt: skip
def test_without_a_known_key_nothing_is_answered(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        LOCKED.admit(request(**headers))
    assert "key-of" not in refused.value.message


def test_what_is_open_needs_no_key() -> None:
    assert LOCKED.admit(request("/healthz"), "open") is EVERYBODY


def test_every_digest_is_compared_in_constant_time_also_behind_what_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(guards, "hmac", SimpleNamespace(compare_digest=compare))
    LOCKED.admit(request(x_api_key="key-of-boss"))
    digest = digest_of("key-of-boss")
    assert compared == [(ADMIN.sha256, digest), (EDITOR.sha256, digest)]


@given(st.text(max_size=80), st.sampled_from(["authorization", "x-api-key", "api-key", "x-goog-api-key", "?key="]))
@settings(max_examples=200, deadline=None)
def test_no_text_gets_in_and_none_breaks_the_guard(text: str, style: str) -> None:
    made = request(f"/v1/models?key={quote(text)}") if style == "?key=" else request()
    if style != "?key=":
        made.headers[style] = f"Bearer {text}" if style == "authorization" else text
    with pytest.raises(Unauthenticated):
        LOCKED.admit(made)


@given(st.dictionaries(st.sampled_from(["host", "origin", "authorization", "x-api-key"]), st.text(max_size=60)))
@settings(max_examples=200, deadline=None)
def test_whatever_the_headers_hold_the_answer_is_one_of_ours(headers: dict[str, str]) -> None:
    try:
        admitted = LOCKED.admit(Request("GET", "/", headers))
    except ByenatosError:
        return
    assert set(credentials(headers, {})) & {"key-of-boss", "key-of-editor"}, admitted


# ---- roles -------------------------------------------------------------------------------------------------------


def test_managing_needs_the_role_admin() -> None:
    assert LOCKED.admit(request(x_api_key="key-of-boss"), "admin") is ADMIN
    with pytest.raises(PermissionDenied, match="role admin"):
        LOCKED.admit(request(x_api_key="key-of-editor"), "admin")


def test_where_there_are_no_keys_everybody_may_manage() -> None:
    assert OPEN.admit(request(), "admin").is_admin


def test_a_client_names_its_own_slots_only() -> None:
    asked = request()
    asked.client = EDITOR
    assert asked.check_model("coder") == "coder"
    with pytest.raises(PermissionDenied, match="editor may ask coder"):
        asked.check_model("default")
    asked.client = ADMIN
    assert asked.check_model("anything") == "anything"


def test_users_have_sessions_of_their_own_and_cannot_name_anybody_else_s() -> None:
    other = Client("other", "")
    assert EDITOR.own_session("a") != other.own_session("a")
    assert EDITOR.own_session(other.own_session("a")) != other.own_session("a")
    assert ADMIN.own_session("other/a") == other.own_session("a")
