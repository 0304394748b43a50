"""Files that a model's settings name, with a real model in a sandbox: opened by the kernel, and by nobody else."""

import json
import shutil
from pathlib import Path

import pytest
from kernel_process import instance_of, until, until_models, until_ready
from plugins.llamacpp.tests.lora_file import write_adapter

from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}"),
]

GREEDY = {"temperature": 0.0, "max_tokens": 12}
QUESTION = "What is the capital of France?"


@pytest.fixture
def start(home, start_kernel, smollm2, tmp_path):
    """Start a kernel with three models of one file: plain, one with an adapter beside it, one with one elsewhere."""
    elsewhere = tmp_path / "elsewhere.gguf"

    def begin(adapt=write_adapter):
        home.create()
        for name in ("plain", "beside", "elsewhere"):
            (home.models / f"{name}.gguf").symlink_to(smollm2)
        adapt(home.models / "small.gguf", 0.0)
        adapt(elsewhere, 1.0)
        elsewhere.chmod(0o600)
        lora = {"plain": [], "beside": ["small.gguf"], "elsewhere": [{"file": str(elsewhere), "scale": 2.0}]}
        configured = [
            {"model_id": name, "vendor": "llamacpp", "settings": {"n_ctx": 512, "threads": 1, "lora": files}}
            for name, files in lora.items()
        ]
        home.config.write_text(
            json.dumps({"llm_driver_config": {"default_model": "plain"}, "model_config": configured})
        )
        return start_kernel(configured=False), elsewhere

    return begin


async def answer(client, model: str) -> str:
    return (await client.infer(QUESTION, model=model, **GREEDY)).text


async def available(client, *names: str):
    return await until_models(
        client, lambda models: all(name in models and models[name].state == "available" for name in names)
    )


async def test_adapters_are_applied_in_a_sandbox_that_can_open_neither_them_nor_the_model(start):
    kernel, elsewhere = start()
    async with kernel.client() as client:
        await until_ready(client)
        await available(client, "plain", "beside", "elsewhere")
        for name in ("beside", "elsewhere"):
            await client.load(name)
        instance = instance_of(await client.status(), "elsewhere")
        assert not instance.open
        assert instance.template == "warm"
        plain = await answer(client, "plain")
        assert await answer(client, "beside") == plain
        assert await answer(client, "elsewhere") != plain
        # the file that was granted is in use, whatever its name leads to
        before = await answer(client, "elsewhere")
        elsewhere.unlink()
        assert await answer(client, "elsewhere") == before


async def test_a_session_moves_between_processes_with_the_same_adapter(start):
    kernel, _ = start()
    async with kernel.client() as client:
        await until_ready(client)
        await available(client, "elsewhere")
        await client.swap("default", "elsewhere")
        first = await client.session("moving").infer(QUESTION, **GREEDY)
        await client.swap("default", "elsewhere")
        second = await client.session("moving").infer("And of Italy?", **GREEDY)
        assert second.usage.cached_tokens >= first.usage.input_tokens


async def test_a_changed_adapter_is_opened_and_hashed_anew_and_a_missing_one_named(start):
    kernel, elsewhere = start()
    async with kernel.client() as client:
        await until_ready(client)
        await available(client, "beside", "elsewhere")
        await client.load("elsewhere")
        before = await answer(client, "elsewhere")
        await client.unload("elsewhere")
        elsewhere.rename(elsewhere.with_name("away"))
        with pytest.raises(Unavailable, match=r"elsewhere: .*elsewhere.gguf was changed; it is looked at again"):
            await client.load("elsewhere")
        models = await until_models(client, lambda models: models["elsewhere"].state == "refused")
        assert models["elsewhere"].reason.startswith(f"lora: {elsewhere}: cannot be opened: No such file")
        with pytest.raises(Unavailable, match="elsewhere is refused: lora: "):
            await client.load("elsewhere")
        write_adapter(elsewhere, 0.0)
        with pytest.raises(Unavailable, match="was changed"):
            await client.load("elsewhere")
        await available(client, "elsewhere")
        await client.load("elsewhere")
        assert await answer(client, "elsewhere") == await answer(client, "plain") != before
        assert await answer(client, "plain")


async def test_a_damaged_adapter_is_an_error_of_its_model_alone(start):
    def damaged(path: Path, size: float) -> None:
        write_adapter(path, size)
        path.write_bytes(path.read_bytes()[:-100])

    kernel, _ = start(damaged)
    async with kernel.client() as client:
        await until_ready(client)
        await available(client, "plain", "beside", "elsewhere")
        with pytest.raises(InvalidRequest, match=r"lora: small.gguf: the file is truncated or damaged"):
            await client.load("beside")
        assert await answer(client, "plain")
        status = await until(client, lambda status: len(status.instances) == 1)
        assert status.instances[0].restarts == 0


async def test_what_a_manifest_names_is_granted_to_nobody(home, start_kernel, smollm2, tmp_path):
    """A plugin of somebody's asks for a file of this machine by its own settings: the operator has not named it."""
    secret = tmp_path / "secret.gguf"
    write_adapter(secret, 1.0)
    secret.chmod(0o600)
    kernel = start_kernel(default=None)
    folder = home.plugins / "greedy"
    shutil.copytree(Path(__file__).parents[2] / "plugins" / "llamacpp", home.plugins / ".greedy", ignore=_but_code)
    manifest = home.plugins / ".greedy" / "plugin.toml"
    text = manifest.read_text().replace('id = "llamacpp"', 'id = "greedy"')
    text = text.replace("lora = [] ", f'lora = ["{secret}"] ').replace("*.gguf", "*.greedy")
    manifest.write_text(text)
    (home.plugins / ".greedy").rename(folder)
    async with kernel.client() as client:
        (home.models / "mine.greedy").symlink_to(smollm2)
        await available(client, "mine")
        with pytest.raises(InvalidRequest, match=r"lora: secret.gguf: cannot be opened"):
            await client.load("mine")


def _but_code(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in {"tests", "__pycache__"}]
