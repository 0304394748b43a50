"""Reload, upgrade and rollback in real kernels, with signed versions of a driver and under running answers."""

import asyncio
import shutil
import sys

import pytest
from kernel_process import counting, is_counted, numbers, slot_of, until, until_ready, write_config
from plugin_folder import write_plugin
from publisher import Publisher

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import Moved

STEADY = """
import asyncio
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    continues = True
    async def infer(self, request):
        for number in range(request.partial.count(" "), 60):
            yield f"{number} "
            await asyncio.sleep(0.01)
"""
BROKEN = """
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        raise RuntimeError("the engine broke")
        yield ""
"""


@pytest.fixture
def acme(home, tmp_path):
    """A publisher whom the kernel trusts."""
    write_config(home)
    home.access.unlink()
    return Publisher(home, tmp_path)


@pytest.fixture
def workshop(tmp_path):
    """Where he writes his folders."""
    return Home(tmp_path / "workshop")


def bring(home, folder):
    """Put a folder's files in place of those that are there."""
    place = home.plugins / folder.name
    place.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.copy(path, place / path.name)
    shutil.rmtree(folder)


async def staged(client, version):
    """Wait until the kernel has verified a version of ``saying``."""

    def verified(status):
        [plugin] = [one for one in status.plugins if one.id == "saying"] or [None]
        return plugin is not None and plugin.version == version and plugin.state == "available"

    await until(client, verified)


def plugin_of(status):
    return next(one for one in status.plugins if one.id == "saying")


async def said(client):
    return (await client.infer("x", model="saying")).text


async def test_a_driver_is_upgraded_rolled_back_and_upgraded_again_while_it_serves(start_kernel, home, acme, workshop):
    bring(home, acme.write("saying", "'one'", at=workshop, version="1"))
    write_config(home, slots={"saying": "saying"})
    home.access.unlink()
    kernel = start_kernel(configured=False)
    async with kernel.client() as client:
        await until_ready(client, "saying")
        bring(home, acme.write("saying", "'two'", at=workshop, version="2"))
        await staged(client, "2")
        assert await said(client) == "one"
        done = await client.upgrade_driver("saying")
        assert (done.version, done.models, done.slots) == ("2", ("saying",), ("saying",))
        assert await said(client) == "two"
        done = await client.roll_back_driver("saying")
        assert done.version == "1"
        assert await said(client) == "one"
        assert plugin_of(await client.status()).held == "version 2 was rolled back by the operator; 1 runs instead"
    kernel.stop()
    async with start_kernel(configured=False).client() as client:
        await until_ready(client, "saying")
        assert await said(client) == "one"  # what the operator held back stays so
        await client.upgrade_driver("saying")
        assert await said(client) == "two"
        assert {swap.cause for swap in await client.swaps()} == {
            "upgrade of saying to 2", "rollback of saying to 1",
        }  # fmt: skip


async def test_a_version_that_fails_its_self_test_never_counts_until_its_files_change(start_kernel, home):
    write_plugin(home, "saying", STEADY, extra="self_test = true")
    kernel = start_kernel(slots={"saying": "saying"})
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client, "saying")
        before = slot_of(await client.status(), "saying").epochs
        stream = client.stream("x", model="saying")
        await anext(stream)
        place = home.plugins / "saying"
        (place / "plugin.py").write_text(BROKEN)
        (place / "plugin.toml").write_text((place / "plugin.toml").read_text().replace('"1"', '"2"'))
        await staged(other, "2")
        with pytest.raises(Unavailable, match=r"saying 2 is refused: saying failed its self-test: .*the engine broke"):
            await other.upgrade_driver("saying", strategy="immediate")
        answer = await stream.response()
        assert (answer.text, answer.moves) == (numbers(60), ())
        assert plugin_of(await client.status()).version == "1"
        assert slot_of(await client.status(), "saying").epochs == before
        await client.swap("default", "saying")
        assert slot_of(await client.status()).model == "saying"
    assert kernel.kill() == []
    kernel = start_kernel(configured=False)
    async with kernel.client() as client:
        await until_ready(client, "saying")
        assert plugin_of(await client.status()).version == "1"
        (place / "plugin.py").write_text(STEADY.replace("60", "3"))
        await until(client, lambda status: plugin_of(status).version == "2" and not plugin_of(status).held)
        await client.upgrade_driver("saying")
        assert (await client.infer("x", model="saying")).text == numbers(3)


async def test_a_reload_moves_a_running_answer_to_a_new_process(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        before = (await until_ready(client)).instances[0].epoch
        stream = client.stream("count", extra=counting(-1, 100))
        await anext(stream)
        done = await other.reload("echo", strategy="immediate")
        assert (done.models, done.slots) == (("echo",), ("default",))
        async for delta in stream:
            if isinstance(delta, Moved):
                break
        for _ in range(10):
            await anext(stream)
        assert is_counted(stream.text)
        await stream.aclose()
        status = await until(client, lambda status: len(status.instances) == 1)
        assert status.instances[0].epoch > before


async def test_a_driver_is_reloaded_upgraded_and_rolled_back_from_the_command_line(start_kernel, home):
    write_plugin(home, "saying", STEADY)
    kernel = start_kernel(slots={"saying": "saying"})
    async with kernel.client() as client:
        await until_ready(client, "saying")
        manifest = home.plugins / "saying" / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('"1"', '"2"'))
        await staged(client, "2")

        async def run(*words):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), *words),
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await process.communicate()
            return process.returncode, out.decode()

        assert await run("driver", "upgrade", "saying") == (0, "saying 2 serves saying\n  slots: saying\n")
        assert await run("driver", "rollback", "saying") == (0, "saying 1 serves saying\n  slots: saying\n")
        assert "version 2 was rolled back by the operator; 1 runs instead" in (await run("driver", "list"))[1]
        assert await run("models", "reload", "saying") == (0, "saying 1 serves saying\n  slots: saying\n")
        assert (await run("driver", "rollback", "saying"))[0] == 1
