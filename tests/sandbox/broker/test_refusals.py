"""What a driver may not ask for, in every spelling of it."""

import pytest
from broker_rig import Broker, rule
from hypothesis import given
from hypothesis import strategies as st
from vendor import HOST, Vendor

from byenatos_sandbox.broker.messages import Rule
from byenatos_sandbox.broker.policy import check_path, match
from byenatos_sandbox.broker.refusal import Refused

RULES = (
    Rule("api.a.test", 443, paths=("/v1/chat", "/v1beta/models/")),
    Rule("api.a.test", 443, methods=("DELETE",), paths=("/v1/files/",)),
    Rule("api.a.test", 8443),
    Rule("local.test", 11434, scheme="http"),
    Rule("denied.test", refused="denied.test:443 is not granted"),
)

ALLOWED = [
    ("POST", b"api.a.test", b"/v1/chat"),
    ("POST", b"API.A.TEST", b"/v1/chat/completions?x=1"),
    ("POST", b"api.a.test:443", b"/v1/chat"),
    ("POST", b"api.a.test", b"/v1beta/models/gemini:streamGenerateContent?alt=sse"),
    ("DELETE", b"api.a.test", b"/v1/files/7"),
    ("GET", b"api.a.test:8443", b"/anything"),
    ("POST", b"local.test:11434", b"/api/chat"),
    ("POST", b"api.a.test", b"/v1/chat/%C3%A9"),
]

REFUSED = [
    ("POST", b"api.a.test", b"/v1/chatter", "this path"),
    ("POST", b"api.a.test", b"/v1beta/models", "this path"),
    ("POST", b"api.a.test", b"/", "this path"),
    ("PUT", b"api.a.test", b"/v1/chat", "no PUT"),
    ("POST", b"api.a.test:444", b"/v1/chat", "api.a.test:444"),
    ("POST", b"api.a.test:80", b"/v1/chat", "api.a.test:80"),
    ("POST", b"local.test", b"/api/chat", "local.test"),
    ("POST", b"evil.test", b"/v1/chat", "evil.test"),
    ("POST", b"api.a.test.evil.test", b"/v1/chat", "no access"),
    ("POST", b"api.a.test.", b"/v1/chat", "no access"),
    ("POST", b"api.a.test@evil.test", b"/v1/chat", "not a host name"),
    ("POST", b"[::1]", b"/v1/chat", "not a host name"),
    ("POST", b"", b"/v1/chat", "not a host name"),
    ("POST", b"api.a.test:", b"/v1/chat", "not a host name"),
    ("POST", b"api.a.test:443:443", b"/v1/chat", "not a host name"),
    ("POST", b"127.0.0.1", b"/v1/chat", "no access to 127.0.0.1"),
    ("CONNECT", b"api.a.test", b"api.a.test:443", "no CONNECT"),
    ("GET", b"api.a.test", b"https://evil.test/v1/chat", "no absolute form"),
    ("OPTIONS", b"api.a.test", b"*", "no `*`"),
    ("POST", b"denied.test", b"/", "denied.test:443 is not granted"),
    *(
        ("POST", b"api.a.test", b"/v1/chat" + path, "not canonical")
        for path in (
            b"/../../admin",
            b"/..",
            b"/./x",
            b"/.",
            b"//x",
            b"/%2e%2e/admin",
            b"/%2E./admin",
            b"/x%2fy",
            b"/x%5cy",
            b"/x\\y",
            b"/%00",
            b"/%0d%0ahost:x",
            b"/%",
            b"/%zz",
            b"/%6",
            b"/%61",
            b"/..;/admin",
            b"/.;x/admin",
            b"/x#y",
            b'/"',
            b"/\xe9",
        )
    ),
    ("POST", b"api.a.test", b"/v1/chat?a#b", "query"),
    ("POST", b"api.a.test", b"/v1/chat?" + b"x" * 20000, "longer"),
]


@pytest.mark.parametrize(("method", "host", "target"), ALLOWED)
def test_what_a_rule_allows_is_found(method, host, target):
    assert match(RULES, method, host, target).host == host.decode().lower().partition(":")[0]


@pytest.mark.parametrize(("method", "host", "target", "reason"), REFUSED)
def test_what_no_rule_allows_is_refused_with_a_reason(method, host, target, reason):
    with pytest.raises(Refused) as refused:
        match(RULES, method, host, target)
    assert reason in refused.value.reason


@given(st.binary(max_size=40), st.binary(max_size=60))
def test_no_bytes_break_the_check_and_what_passes_is_below_a_rule(host, target):
    try:
        rule = match(RULES, "POST", host, target)
    except Refused:
        return
    assert host.decode().lower().startswith(rule.host)
    assert target.startswith(tuple(path.encode() for path in rule.paths))


@given(st.text("./%25eEfFcC\\;a", max_size=20))
def test_a_path_that_passes_has_one_spelling(path):
    import posixpath
    import urllib.parse

    if path.startswith("/") and not check_path(path.encode()):
        decoded = urllib.parse.unquote(path)
        assert posixpath.normpath(decoded).rstrip("/") == decoded.rstrip("/")


async def test_a_refusal_is_marked_and_says_why_and_the_connection_lives_on(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        stream = await broker.dial()
        answer = await broker.get("/v2/x", method="POST", body=b"x" * 1000, stream=stream)
        assert (answer.status, answer.refused) == (403, True)
        assert answer.reason == f"the driver's plugin.toml asks for no access to this path of {HOST}"
        assert (await broker.get("/v1/x", stream=stream)).status == 200
        stream[1].close()


async def test_a_refusal_comes_through_while_a_large_body_is_still_being_sent(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get("/v2/x", method="POST", body=b"x" * (3 << 20))
        assert (answer.status, answer.refused) == (403, True)


async def test_a_certificate_for_another_name_or_by_nobody_known_is_not_trusted(tmp_path):
    async with Vendor(names=("other.test",)) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get()
        assert answer.status == 502
        assert "certificate is not trusted" in answer.reason
        assert not vendor.calls
