"""The drivers that ship, as they ship: each in its sandbox, by the broker, against its vendor as recorded.

The vendors' own names lead to a played vendor with a certificate for them; grants and keys are what their READMEs say.
"""

import asyncio
import json
from pathlib import Path

import pytest
from kernel_process import KernelProcess, until_ready
from mock_vendor import MockVendor, Script
from tests.sdk.formats import cases

from byenatos_kernel.shipped import shipped
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import read_manifest
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Failure, TextDelta

CLOUDS = {
    "openai": ("openai", "gpt-6.1-terra", "openai_chat"),
    "openai-responses": ("openai", "gpt-6-luna", "openai_responses"),
    "anthropic": ("anthropic", "claude-haiku-4-5", "anthropic"),
    "google": ("google", "gemini-2.5-flash-lite", "gemini"),
    "meta": ("meta", "muse-spark-1.3", "openai_chat"),
    "huggingface": ("huggingface", "hf-gpt-oss-120b", "huggingface"),
    "baidu": ("baidu", "ernie-5.1", "qianfan"),
    "alibaba": ("alibaba", "qwen3.8-flash", "dashscope"),
    "tencent": ("tencent", "hy4", "openai_chat"),
    "deepseek": ("openai-compatible", "deepseek-v4-flash", "openai_chat"),
}
"""By slot: the driver, a model of it, and the cases that it must read."""

SETTINGS = {"openai-responses": {"api": "openai_responses"}}
FOREIGN = ("qianfan/resp-v1", "qianfan/err-v1", "dashscope/compat")
"""Cases of an API that the driver does not speak."""
KEY = "sk-canary-0123456789abcdef"


def manifests():
    return {driver: read_manifest(shipped("plugins") / driver) for driver, _, _ in CLOUDS.values()}


def hosts():
    return sorted(
        {one.host for manifest in manifests().values() for one in manifest.egress if one.scheme == "https"} - {"*"}
    )


def access(ca: Path) -> str:
    text = "[plugins]\nunsigned = true\n"
    secrets = set()
    for driver, manifest in manifests().items():
        asked = [one for one in manifest.egress if not one.anywhere and one.scheme == "https"]
        secrets |= (own := {one.key.secret for one in asked})
        network = json.dumps([one.place for one in asked])
        text += f'[drivers.{driver}]\nnetwork = {network}\nca = "{ca}"\nsecrets = {json.dumps(sorted(own))}\n'
    return text + "".join(f'[secrets.{name}]\nenvironment = "KEY"\n' for name in sorted(secrets))


@pytest.fixture(scope="module")
def vendor():
    with MockVendor(*hosts()) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def kernel(vendor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vendors")
    home = Home(folder / "home")
    config = {
        "slots": {slot: model for slot, (_, model, _) in CLOUDS.items()},
        "model_config": [
            {"model_id": model, "vendor": driver, "settings": {"attempts": 1, **SETTINGS.get(slot, {})}}
            for slot, (driver, model, _) in CLOUDS.items()
        ],
        "llm_driver_config": {"max_concurrent_models": len(CLOUDS)},
    }
    home.policies.mkdir(parents=True)
    home.config.write_text(json.dumps(config))
    home.access.write_text(access(vendor.trust(folder / "ca.pem")))
    kernel = KernelProcess(home, environment={**vendor.environment, "KEY": KEY})
    yield kernel
    kernel.clean_up()


@pytest.fixture
def ask(kernel, vendor):
    vendor.forget()

    async def ask(slot, *scripts, **options):
        vendor.queue(*scripts)
        deltas = []
        async with kernel.client() as client:
            await until_ready(client, slot)
            async with client.stream("hello", model=slot, **options) as stream:
                try:
                    async for delta in stream:
                        deltas.append(delta)  # noqa: PERF401 - what came before an error counts
                except ByenatosError as error:
                    deltas.append(Failure(error.code, error.message, error.retry_after_s, error.partial))
        return deltas

    return ask


def script_of(case) -> Script:
    wire = case.wire
    headers = {
        name.lower(): value for name, value in (wire.get("headers") or {}).items() if name.lower() != "content-length"
    }
    if case.kind == "stream":
        headers.setdefault("content-type", wire["content_type"])
        return Script(cases.pieces(case), wire["status"], headers, "close" if wire.get("abort") else "end")
    answer = cases.wire_response(case)
    headers.setdefault("content-type", "application/json")
    return Script((answer.body,), answer.status, headers)


def known(*kinds):
    return [
        pytest.param(slot, case, id=f"{slot}-{case.id}")
        for slot, (_, _, vendor) in CLOUDS.items()
        for case in cases.load(vendor, *kinds)
        if not case.id.startswith(FOREIGN) and not {"models", "embeddings"} & case.meaning.keys()
    ]


@pytest.mark.parametrize(("slot", "case"), known("stream", "response"))
async def test_what_a_vendor_answers_is_what_the_application_reads(ask, slot, case):
    cases.assert_deltas(await ask(slot, script_of(case)), case.meaning)


@pytest.mark.parametrize(("slot", "case"), known("error"))
async def test_what_a_vendor_refuses_is_the_error_that_it_means(ask, slot, case):
    (failure,) = await ask(slot, script_of(case))
    assert failure.code == cases.error_code(case.meaning)
    assert failure.retry_after_s == case.meaning["error"].get("retry_after", failure.retry_after_s)
    assert KEY not in failure.message


def streams():
    """A stream with text of each slot's vendor that ends well."""
    for slot, (_, _, vendor) in CLOUDS.items():
        whole = [case for case in cases.load(vendor, "stream") if case.meaning.get("finish") == "stop"]
        plain = [case for case in whole if case.meaning.get("text") and case.id.partition("/")[2].startswith("stream")]
        yield pytest.param(slot, plain[0], id=slot)


@pytest.mark.parametrize(("slot", "case"), list(streams()))
async def test_a_stream_that_breaks_off_is_never_an_end(ask, slot, case):
    (whole,) = script_of(case).pieces
    for length in range(len(whole) // 4, len(whole) // 2, len(whole) // 12):
        deltas = await ask(slot, script_of(case)._replace(pieces=[whole[:length]], ending="close"))
        assert isinstance(deltas[-1], Failure)
        assert deltas[-1].code == "stream_interrupted"
        said = "".join(delta.text for delta in deltas[:-1] if isinstance(delta, TextDelta))
        assert case.meaning["text"].startswith(said)


@pytest.mark.parametrize(("slot", "case"), list(streams()))
async def test_leaving_an_answer_is_heard_by_every_vendor(kernel, vendor, slot, case):
    vendor.forget()
    vendor.queue(script_of(case)._replace(pieces=script_of(case).pieces[:1], ending="stall"))
    async with kernel.client() as client:
        await until_ready(client, slot)
        stream = client.stream("hello", model=slot)
        assert await asyncio.to_thread(vendor.begun.wait, 60)
        await stream.aclose()
        assert await asyncio.to_thread(vendor.left.wait, 60)


async def test_lists_of_models_and_embeddings_are_what_the_vendor_says(kernel, vendor):
    vendor.forget()
    async with kernel.client() as client:
        await until_ready(client, *CLOUDS)
        for slot, (_, _, name) in CLOUDS.items():
            for case in cases.load(name, "response"):
                if "models" in case.meaning:
                    vendor.queue(script_of(case))
                    listed = [model.id for model in await client.vendor_models(slot)]
                    assert listed == [one.removeprefix("models/") for one in case.meaning["models"]]
                elif "embeddings" in case.meaning:
                    vendor.queue(script_of(case))
                    found = await client.embed(["a", "b"], model=slot)
                    assert [list(vector) for vector in found.vectors] == case.meaning["embeddings"]
                    assert found.usage.input_tokens == case.meaning["usage"]["input"]


async def test_each_driver_asks_its_vendor_where_it_is_and_with_its_key(ask, vendor):
    for slot, (driver, model, _) in CLOUDS.items():
        vendor.forget()
        await ask(slot, Script.json({"error": {"message": "no"}}, 400))
        (request,) = vendor.requests
        asked = next(one for one in manifests()[driver].egress if one.host == vendor.hosts[0])
        assert any(request.path.startswith(prefix) for prefix in asked.paths)
        assert request.headers[asked.key.header] == f"{asked.key.prefix}{KEY}"
        named = request.path + request.body.decode()
        settings = next(one.settings for one in manifests()[driver].models if one.id == model)
        assert settings.get("model", model) in named


async def test_what_a_model_costs_and_can_do_is_known_from_its_manifest(kernel):
    async with kernel.client() as client:
        await until_ready(client, *CLOUDS)
        models = {model.id: model.specification for model in await client.models()}
        assert models["claude-haiku-4-5"].context_length == 200_000
        assert models["claude-haiku-4-5"].metadata["price.output"] == "5.0"
        assert "tools" in models["hy4"].features
        assert models["gpt-6-astra"].name == "GPT-6 Astra"  # which is not loaded
