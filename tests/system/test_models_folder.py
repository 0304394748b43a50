"""Files that come to, change in and leave the models folder of a running kernel."""

import os
import struct
import subprocess
import sys

import pytest
from kernel_process import CEILING_S, counting, judged, numbers, slot_of, until, until_models, until_ready
from plugin_folder import write_plugin

from byenatos_sdk.protocol.errors import NotFound, Unavailable

READER = """
import pathlib
from byenatos_sdk.driver import Driver
from byenatos_sdk.files import open_file
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.messages import ModelSpecification

def text_of(path):
    with open_file(path) as file:
        return file.read().decode()

class Plugin(Driver):
    @classmethod
    def probe(cls, path, settings):
        text = text_of(path)
        if not text.startswith("toy "):
            return ProbeResult(reason=f"expected a file that begins with 'toy ', found {text[:4]!r}")
        return ProbeResult(ModelSpecification(path.stem, size_bytes=len(text)))
    async def start(self, model):
        self.text = text_of(model.path)
    async def infer(self, request):
        yield self.text
"""


@pytest.fixture
def toys(home, start_kernel):
    """A kernel with a driver whose model files are texts, ``*.toy``, which it says as its answer."""
    write_plugin(home, "toy", READER, model_files='["*.toy"]', models=False)
    home.create()
    return start_kernel(default=None, fallback=None)


def drop(home, name, text):
    """Put a file into the models folder as a whole, as a download tool does."""
    part = home.models / f"{name}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text)
    part.rename(home.models / name)


def is_in(state, name):
    return lambda models: name in models and models[name].state == state


# ---- arriving --------------------------------------------------------------------------------------------------


async def test_a_file_that_is_dropped_in_is_listed_and_fills_the_empty_default_slot(toys, home):
    async with toys.client() as client:
        drop(home, "one.toy", "toy one")
        models = await until_models(client, is_in("available", "one"))
        assert models["one"].driver == "toy"
        assert models["one"].specification.size_bytes == 7
        await until_ready(client)
        assert (await client.infer("x")).text == "toy one"


@pytest.mark.parametrize("default", [None, "one"], ids=["by itself", "as configured"])
async def test_a_file_that_is_there_at_the_start_answers_the_very_first_request(home, start_kernel, default):
    write_plugin(home, "toy", READER, model_files='["*.toy"]', models=False)
    drop(home, "one.toy", "toy one")
    async with start_kernel(default=default, fallback=None).client() as client:
        assert (await client.infer("x")).text == "toy one"


async def test_a_file_that_is_still_copied_keeps_no_kernel_from_starting(home, start_kernel):
    write_plugin(home, "toy", READER, model_files='["*.toy"]', models=False)
    drop(home, "one.toy", "toy")
    with (home.models / "one.toy").open("a"):
        async with start_kernel(default=None, fallback=None).client() as client:
            assert (await client.models())[0].id
            assert slot_of(await client.status(), "default").state == "empty"


async def test_a_file_that_is_being_copied_is_not_taken_before_it_is_closed(toys, home):
    async with toys.client() as client:
        with (home.models / "slow.toy").open("w") as file:
            file.write("toy ")
            file.flush()
            await until_models(client, is_in("copying", "slow"))
            drop(home, "other.toy", "toy other")  # takes as long as a file takes that nobody writes to
            models = await until_models(client, is_in("available", "other"))
            assert models["slow"].state == "copying"
            with pytest.raises(Unavailable, match="copying"):
                await client.load("slow")
            file.write("slow")
        await until_models(client, is_in("available", "slow"))
        await client.load("slow")
        assert (await client.infer("x", model="slow")).text == "toy slow"


async def test_a_file_that_another_process_copies_is_not_taken_before_it_is_closed(toys, home):
    code = "import sys\nfile = open(sys.argv[1], 'w')\nfile.write('toy ')\nfile.flush()\nprint('writing', flush=True)\n"
    code += "sys.stdin.readline()\nfile.write('done')\nfile.close()\n"
    async with toys.client() as client:
        with subprocess.Popen(
            [sys.executable, "-c", code, str(home.models / "copied.toy")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            await until_models(client, is_in("copying", "copied"))
            drop(home, "other.toy", "toy other")
            assert (await until_models(client, is_in("available", "other")))["copied"].state == "copying"
            process.communicate(b"go on\n", timeout=CEILING_S)
        models = await until_models(client, is_in("available", "copied"))
        assert models["copied"].specification.size_bytes == 8


async def test_a_file_that_is_none_of_the_drivers_is_refused_with_what_each_expected(toys, home):
    async with toys.client() as client:
        drop(home, "bad.toy", "something else")
        drop(home, "picture.png", "png")
        models = await until_models(
            client, lambda models: is_in("refused", "bad")(models) and is_in("refused", "picture.png")(models)
        )
        assert "expected a file that begins with 'toy '" in models["bad"].reason
        assert "*.gguf" in models["picture.png"].reason
        with pytest.raises(Unavailable, match="expected a file"):
            await client.load("bad")


async def test_names_that_are_no_text_are_refused_with_the_name_made_visible_and_disturb_nothing(toys, home):
    async with toys.client() as client:
        strange = os.fsdecode(b"\xff\xfe")
        drop(home, f"{strange}.toy", "toy model")
        (home.plugins / strange).mkdir()
        (home.plugins / strange / "plugin.toml").write_text("[plugin]\n")
        drop(home, "plain.toy", "toy model")
        models = await until_models(
            client, lambda models: is_in("refused", r"\xff\xfe.toy")(models) and is_in("available", "plain")(models)
        )
        assert "expected a name in UTF-8" in models[r"\xff\xfe.toy"].reason
        status = await until(client, lambda status: r"\xff\xfe" in judged(status))
        refused = next(plugin for plugin in status.plugins if plugin.id == r"\xff\xfe")
        assert refused.state == "refused"
        (home.models / f"{strange}.toy").unlink()
        await until_models(client, lambda models: r"\xff\xfe.toy" not in models)


GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"G", b"GGUF", GGUF[:-3], b"not a model" * 1000, b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1 << 62), GGUF],
    ids=["empty", "one-byte", "magic", "truncated", "text", "counts", "no-tensors"],
)
@pytest.mark.model
async def test_a_file_that_is_no_whole_gguf_is_refused_with_a_reason(start_kernel, home, content):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        (home.models / "broken.gguf").write_bytes(content)
        models = await until_models(client, is_in("refused", "broken"))
        assert models["broken"].reason.startswith("llamacpp: ")
        assert "Traceback" not in models["broken"].reason
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_probe_that_dies_or_raises_refuses_the_file_and_says_so(start_kernel, home):
    code = "import os\nfrom byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n    @classmethod\n"
    code += "    def probe(cls, path, settings):\n        print('probing', flush=True)\n"
    code += "        if 'die' in path.name: os._exit(9)\n        raise RuntimeError('cannot probe')\n"
    code += "    async def infer(self, request):\n        yield ''\n"
    write_plugin(home, "frail", code, model_files='["*.frail"]', models=False)
    kernel = start_kernel(default=None)
    async with kernel.client() as client:
        drop(home, "die.frail", "x")
        drop(home, "raise.frail", "x")
        models = await until_models(
            client, lambda models: is_in("refused", "die")(models) and is_in("refused", "raise")(models)
        )
        assert "status 9" in models["die"].reason
        assert "cannot probe" in models["raise"].reason


async def test_what_is_no_file_or_hidden_or_partial_is_not_listed(toys, home):
    async with toys.client() as client:
        (home.models / "folder.toy").mkdir()
        os.mkfifo(home.models / "pipe.toy")
        (home.models / "broken.toy").symlink_to(home.path / "nowhere")
        for name in (".hidden.toy", "half.toy.part", "half.toy.tmp", "half.toy.crdownload", "old.toy~"):
            (home.models / name).write_text("toy")
        (home.models / ".cache").mkdir()
        (home.models / ".cache" / "cached.toy").write_text("toy")
        drop(home, "real.toy", "toy real")
        models = await until_models(client, is_in("available", "real"))
        assert {model for model, info in models.items() if info.path} == {"real"}


async def test_a_link_to_a_file_elsewhere_is_a_model(toys, home):
    target = home.path / "elsewhere.toy"
    target.write_text("toy linked")
    async with toys.client() as client:
        (home.models / "linked.toy").symlink_to(target)
        await until_models(client, is_in("available", "linked"))
        await until_ready(client)
        assert (await client.infer("x")).text == "toy linked"


async def test_a_file_in_a_folder_below_is_a_model_and_a_name_that_is_taken_is_refused(toys, home):
    async with toys.client() as client:
        drop(home, "same.toy", "toy above")
        await until_models(client, is_in("available", "same"))
        drop(home, "below/same.toy", "toy below")
        models = await until_models(client, is_in("refused", "below/same.toy"))
        assert "taken" in models["below/same.toy"].reason
        assert models["same"].state == "available"


async def test_a_name_that_is_free_again_goes_to_the_file_that_waited_for_it(toys, home):
    async with toys.client() as client:
        drop(home, "other.toy", "toy other")
        await until_ready(client)
        drop(home, "same.toy", "toy above")
        await until_models(client, is_in("available", "same"))
        drop(home, "below/same.toy", "toy below")
        await until_models(client, is_in("refused", "below/same.toy"))
        (home.models / "same.toy").unlink()
        models = await until_models(
            client, lambda models: is_in("available", "same")(models) and "below/same.toy" not in models
        )
        assert models["same"].path.endswith("below/same.toy")


async def test_a_file_that_no_driver_takes_does_not_keep_a_model_of_the_same_name_out(toys, home):
    async with toys.client() as client:
        drop(home, "model.md", "a description that came with it")
        await until_models(client, is_in("refused", "model.md"))
        drop(home, "model.toy", "toy model")
        await until_ready(client)
        assert (await client.infer("x")).text == "toy model"


async def test_200_files_dropped_in_at_once_are_all_listed(toys, home):
    async with toys.client() as client:
        drop(home, "first.toy", "toy first")
        await until_ready(client)
        for number in range(200):
            drop(home, f"many {number}.txt", "x")
        models = await until_models(
            client, lambda models: sum(model.state == "refused" for model in models.values()) == 200
        )
        assert models["first"].state == "available"
        assert (await client.infer("x")).text == "toy first"


# ---- leaving and changing --------------------------------------------------------------------------------------


async def test_a_file_that_is_removed_while_it_serves_goes_on_and_is_gone_after_its_swap(toys, home):
    async with toys.client() as client:
        drop(home, "one.toy", "toy one")
        await until_ready(client)
        (home.models / "one.toy").unlink()
        await until_models(client, is_in("removed", "one"))
        assert (await client.infer("x")).text == "toy one"
        await client.swap("default", "echo")
        await until_models(client, lambda models: "one" not in models)
        with pytest.raises(NotFound):
            await client.swap("default", "one")
        status = await client.status()
        assert slot_of(status).state == "ready"


async def test_a_file_that_nobody_uses_is_forgotten_when_it_is_removed(toys, home):
    async with toys.client() as client:
        drop(home, "one.toy", "toy one")
        await until_ready(client)
        drop(home, "two.toy", "toy two")
        await until_models(client, is_in("available", "two"))
        (home.models / "two.toy").unlink()
        await until_models(client, lambda models: "two" not in models)
        assert (await client.infer("x")).text == "toy one"


async def test_a_file_that_is_replaced_by_another_of_its_name_is_served_after_a_swap_to_itself(toys, home):
    async with toys.client() as client:
        drop(home, "one.toy", "toy one")
        await until_ready(client)
        size = 7
        drop(home, "one.toy", "toy one, the second edition")
        models = await until_models(
            client,
            lambda models: is_in("available", "one")(models) and models["one"].specification.size_bytes > size,
        )
        assert (await client.infer("x")).text == "toy one"
        await client.swap("default", "one")
        assert (await client.infer("x")).text == "toy one, the second edition"
        assert models["one"].state == "available"


async def test_a_file_that_is_replaced_by_rubbish_serves_on_and_cannot_be_swapped_to(toys, home):
    async with toys.client() as client:
        drop(home, "one.toy", "toy one")
        await until_ready(client)
        drop(home, "one.toy", "rubbish")
        await until_models(client, is_in("refused", "one"))
        assert (await client.infer("x")).text == "toy one"
        with pytest.raises(Unavailable, match="refused"):
            await client.swap("default", "one")
        assert (await client.infer("x")).text == "toy one"


async def test_a_file_that_comes_back_is_a_model_again(toys, home):
    async with toys.client() as client:
        drop(home, "one.toy", "toy one")
        await until_ready(client)
        await client.swap("default", "echo")
        (home.models / "one.toy").unlink()
        await until_models(client, lambda models: "one" not in models)
        drop(home, "one.toy", "toy once more")
        await until_models(client, is_in("available", "one"))
        await client.swap("default", "one")
        assert (await client.infer("x")).text == "toy once more"


async def test_a_models_folder_that_is_replaced_is_watched_on(toys, home):
    async with toys.client() as client:
        home.models.rename(home.path / "old-models")
        home.models.mkdir()
        drop(home, "one.toy", "toy one")
        await until_ready(client)
        drop(home, "two.toy", "toy two")
        await until_models(client, is_in("available", "two"))


async def test_a_configured_file_model_that_appears_later_is_supplied_with_its_settings(start_kernel, home):
    code = READER.replace("self.text = text_of(model.path)", "self.text = str(model.settings)")
    write_plugin(home, "toy", code, model_files='["*.toy"]', models=False)
    kernel = start_kernel(default="late", slots={"ready": "echo"})
    async with kernel.client() as client:
        await until_ready(client, "ready")
        assert slot_of(await client.status()).state == "unavailable"
        drop(home, "late.toy", "toy late")
        await until(client, lambda status: slot_of(status).state == "ready")
        assert (await client.infer("x")).text == "{}"
