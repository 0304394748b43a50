"""The drivers that ship, as they ship: each in its sandbox, by the broker, against its vendor as recorded cases have it.

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
from byenatos_sdk.protocol.messages import Failure

CLOUDS = {
    "openai": ("gpt-6.1-terra", "openai_chat"),
    "anthropic": ("claude-haiku-4-5", "anthropic"),
    "google": ("gemini-2.5-flash-lite", "gemini"),
    "meta": ("muse-spark-1.3", "openai_chat"),
    "huggingface": ("hf-gpt-oss-120b", "huggingface"),
    "baidu": ("ernie-5.1", "qianfan"),
    "alibaba": ("qwen3.8-flash", "dashscope"),
    "tencent": ("hy4", "openai_chat"),
    "openai-compatible": ("deepseek-v4-flash", "openai_chat"),
}
"""Each driver with a model of it, and the cases that it must read."""

FOREIGN = ("qianfan/resp-v1", "qianfan/err-v1")
"""Cases of an API that the driver does not speak."""
KEY = "sk-canary-0123456789abcdef"


def manifests():
    return {id: read_manifest(shipped("plugins") / id) for id in CLOUDS}


def hosts():
    return sorted(
        {one.host for manifest in manifests().values() for one in manifest.egress if one.scheme == "https"} - {"*"}
    )


def access(ca: Path) -> str:
    text = "[plugins]\nunsigned = true\n"
    secrets = set()
    for id, manifest in manifests().items():
        asked = [one for one in manifest.egress if not one.anywhere and one.scheme == "https"]
        secrets |= (own := {one.key.secret for one in asked})
        network = json.dumps([one.place for one in asked])
        text += f'[drivers.{id}]\nnetwork = {network}\nca = "{ca}"\nsecrets = {json.dumps(sorted(own))}\n'
    return text + "".join(f'[secrets.{name}]\nenvironment = "KEY"\n' for name in sorted(secrets))


@pytest.fixture(scope="module")
def vendor():
    with MockVendor(*hosts()) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def kernel(vendor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vendors")
    home = Home(folder / "home")
    models = {id: model for id, (model, _) in CLOUDS.items()}
    once = [{"model_id": model, "vendor": id, "settings": {"attempts": 1}} for id, model in models.items()]
    config = {"slots": models, "model_config": once, "llm_driver_config": {"max_concurrent_models": len(models)}}
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
                        deltas.append(delta)
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
        pytest.param(id, case, id=f"{id}-{case.id}")
        for id, (_, vendor) in CLOUDS.items()
        for case in cases.load(vendor, *kinds)
        if not case.id.startswith(FOREIGN)
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
