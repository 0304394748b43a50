"""A vendor that fails in every way it can, over TLS and through the broker: its answers go on at another model.

And where a slot has nothing to degrade to, they end in a failure that says what it was. Never do they just end.
"""

import json

import pytest
from acme import ACCESS, ACME, tokens
from kernel_process import KernelProcess, counting, numbers, slot_of, until, until_ready, write_config
from mock_vendor import MockVendor, Script
from plugin_folder import write_plugin

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Failure, Finish, InstanceState, Moved, TextDelta

MANIFEST = """
[settings]
attempts = 1
first_s = 0.5
gap_s = 0.5

[[egress]]
host = "api.acme.test"
paths = ["/v1/"]
key = {secret = "acme", header = "authorization", prefix = "Bearer "}

[[models]]
id = "lonely"
"""
DEGRADING = """
[slots.default]
degrade_to = ["nothing", "echo"]
"""


def refusal(status, **headers):
    return Script.json({"error": {"message": "no"}}, status, **headers)


FAULTS = {
    "429": (refusal(429), "rate_limited", 0),
    "429 with Retry-After": (refusal(429, retry_after="7"), "rate_limited", 0),
    "429 with a reset": (
        refusal(429, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="7s"),
        "rate_limited",
        0,
    ),
    "401": (refusal(401), "unauthenticated", 0),
    "403": (refusal(403), "permission_denied", 0),
    "404": (refusal(404), "not_found", 0),
    "413": (refusal(413), "request_too_large", 0),
    "500": (refusal(500), "upstream_failed", 0),
    "529": (refusal(529), "overloaded", 0),
    "reset before the first token": (Script(status=0, ending="reset"), "upstream_failed", 0),
    "stalls before the first token": (Script(status=0, ending="stall"), "upstream_timeout", 0),
    "stalls after 5 tokens": (Script.stream(*tokens(5), ending="stall"), "upstream_timeout", 5),
    "an error event after 5 tokens": (
        Script.stream(*tokens(5), b'data: {"error": {"message": "it overheated", "type": "server_error"}}\n\n'),
        "upstream_failed",
        5,
    ),
    "reset after 5 of 20 tokens": (Script.stream(*tokens(5), ending="reset"), "stream_interrupted", 5),
    "closed after 5 of 20 tokens": (Script.stream(*tokens(5), ending="close"), "stream_interrupted", 5),
    "ends after 5 of 20 tokens": (Script.stream(*tokens(5)), "stream_interrupted", 5),
}
"""By what happens: what the vendor does, what that is called, and how much of the answer came before."""


@pytest.fixture(scope="module")
def vendor():
    with MockVendor("api.acme.test") as vendor:
        yield vendor


@pytest.fixture(scope="module")
def kernel(vendor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("failover")
    home = Home(folder / "home")
    write_config(home, default="acme", slots={"alone": "lonely"})
    home.access.write_text(ACCESS.format(ca=vendor.trust(folder / "ca.pem")))
    (home.policies / "swap.toml").write_text(DEGRADING)
    write_plugin(home, "acme", ACME, extra=MANIFEST)
    kernel = KernelProcess(home, environment={**vendor.environment, "ACME_KEY": "sk-0123456789abcdef"})
    yield kernel
    kernel.clean_up()


@pytest.fixture
def ask(kernel, vendor):
    """Ask a slot to count to 20 while its vendor does something; return everything that came."""
    vendor.forget()

    async def ask(slot, script, **options):
        vendor.queue(script)
        heard = []
        async with kernel.client() as client:
            await until_ready(client, slot)
            async with client.stream("count", model=slot, extra=counting(20), **options) as stream:
                try:
                    async for delta in stream:
                        heard.append(delta)
                        if text(heard).endswith("4 "):
                            vendor.release()
                except ByenatosError as error:
                    heard.append(Failure(error.code, error.message, error.retry_after_s, error.partial))
        return heard

    return ask


def text(deltas):
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_a_vendor_breaks_off_is_answered_by_what_the_slot_degrades_to(ask, vendor, fault):
    script, code, _ = FAULTS[fault]
    heard = await ask("default", script)
    assert text(heard) == numbers(20)
    assert [delta for delta in heard if isinstance(delta, Moved)] == [Moved("acme", "echo", code)]
    assert isinstance(heard[-1], Finish)
    assert heard[-1].model == "echo"
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_with_nowhere_to_go_the_failure_says_what_it_was_and_how_much_came(ask, vendor, fault):
    script, code, came = FAULTS[fault]
    heard = await ask("alone", script)
    assert text(heard) == numbers(came)
    end = heard[-1]
    assert isinstance(end, Failure)
    assert (end.code, end.partial) == (code, bool(came))
    assert end.retry_after_s == (7.0 if "with" in fault else None)
    assert not any(isinstance(delta, Finish | Moved) for delta in heard)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_request"), (422, "invalid_request")])
async def test_what_is_the_requests_own_fault_is_told_and_asked_of_nobody_else(ask, status, code):
    (failure,) = await ask("default", refusal(status))
    assert failure.code == code


async def test_the_transcript_says_which_model_ended_a_turn_and_that_it_moved(ask, kernel, vendor):
    script, _, _ = FAULTS["closed after 5 of 20 tokens"]
    await ask("default", script, session="talk")
    async with kernel.client() as client:
        question, answer = (await client.session("talk").transcript()).turns
    assert (question.message.text, question.state) == ("count", "complete")
    assert (answer.message.text, answer.state, answer.model, answer.moves) == (numbers(20), "complete", "echo", 1)


async def test_the_slots_own_model_is_asked_first_as_soon_as_it_answers_again(ask, kernel):
    await ask("default", FAULTS["529"][0])
    async with kernel.client() as client:
        slot = slot_of(await client.status())
    assert (slot.state, slot.detail) == ("ready", "acme failed its last request (overloaded), which went to echo")
    done = {"index": 0, "delta": {"content": "here I am"}, "finish_reason": "stop"}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "acme", "choices": [done]}
    heard = await ask("default", Script.stream(b"data: " + json.dumps(chunk).encode() + b"\n\n", b"data: [DONE]\n\n"))
    assert text(heard) == "here I am"
    assert heard[-1].model == "acme"
    async with kernel.client() as client:
        assert not slot_of(await client.status()).detail


def with_gap_timeout(home, model, seconds):
    """Give a model of the echo driver a limit for its silence."""
    table = json.loads(home.config.read_text())
    table["model_config"].append({"model_id": model, "vendor": "echo", "gap_timeout": seconds})
    home.config.write_text(json.dumps(table))


@pytest.mark.parametrize("limit", ["the request's", "the model's"])
async def test_a_driver_that_says_nothing_more_while_its_heart_beats_is_left(start_kernel, home, limit):
    write_config(home, fallback="echo-two")
    if limit == "the model's":
        with_gap_timeout(home, "echo", 0.5)
    kernel = start_kernel(configured=False)
    async with kernel.client() as client:
        before = await until(
            client, lambda status: [one.state for one in status.instances] == [InstanceState.READY] * 2
        )
        asked = counting(20, fault="silent", fault_after=5)
        answer = await client.infer("count", extra=asked, gap_timeout_s=0.5 if limit == "the request's" else None)
        assert (answer.text, answer.model) == (numbers(20), "echo-two")
        [moved] = answer.moves
        assert (moved.source, moved.target, moved.reason) == ("echo", "echo-two", "deadline_exceeded")
        after = await client.status()
        assert [one.pid for one in after.instances] == [one.pid for one in before.instances]
        assert slot_of(after).state == "ready"
