"""Signed plugins in a real kernel: what is signed runs, what was changed does not, and nothing else notices."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_process import instance_of, judged, until, until_ready
from publisher import Publisher

from byenatos_kernel.environments import environment_of, seal_environment
from byenatos_kernel.trust import DOWNGRADES, REVOKED, Downgrades, Revoked, write_list
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import PluginInfo
from byenatos_sdk.protocol.errors import PermissionDenied, Unavailable


@pytest.fixture
def workshop(tmp_path: Path) -> Home:
    """Where folders are written before they are dropped into the home."""
    return Home(tmp_path / "workshop")


@pytest.fixture
def acme(home: Home, tmp_path: Path) -> Publisher:
    return Publisher(home, tmp_path)


@pytest.fixture
def strict(start_kernel, home):
    """Start a kernel that runs only what is signed."""

    def start(**config):
        kernel = start_kernel(**config, wait=False)
        kernel.stop(signal.SIGKILL)  # the harness lets unsigned folders run
        home.access.unlink()
        return start_kernel(configured=False)

    return start


def command_line(home: Home, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "byenatos_kernel.cli", "--home", str(home.path), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def plugin_of(status, id: str) -> PluginInfo:
    return next(plugin for plugin in status.plugins if plugin.id == id)


async def verdict_on(client, id: str) -> PluginInfo:
    return plugin_of(await until(client, lambda status: id in judged(status)), id)


async def refusal_of(client, id: str) -> str:
    status = await until(client, lambda status: id in judged(status) and plugin_of(status, id).state == "refused")
    return plugin_of(status, id).reason


async def test_a_signed_folder_that_is_dropped_in_is_verified_listed_and_answers_from_the_store(
    strict, home, acme, workshop
):
    kernel = strict()
    async with kernel.client() as client:
        await until_ready(client)
        acme.write("saying", "__file__", at=workshop).rename(home.plugins / "saying")
        found = await verdict_on(client, "saying")
        assert (found.state, found.reason, found.publisher, found.key) == ("available", "", "acme", acme.keys.public.id)
        await client.load("saying", slot="saying")
        answer = (await client.infer("x", model="saying")).text
        assert answer == str(home.store / found.digest / "files" / "plugin.py")


async def test_the_shipped_plugins_are_signed_by_the_operator_when_a_home_is_new(strict, home):
    kernel = strict()
    async with kernel.client() as client:
        await until_ready(client)
        echo = await verdict_on(client, "echo")
        assert (echo.publisher, echo.unsigned) == ("operator", "")
        mapped = Path(f"/proc/{kernel.pid}/maps").read_text()
        assert "cryptography" not in mapped  # the verifier's, not the kernel's
    assert (home.operator_key.stat().st_mode & 0o777) == 0o600
    assert (home.signatures / "llamacpp.sig").exists()


def _changed(folder: Path) -> None:
    (folder / "plugin.py").write_text((folder / "plugin.py").read_text().replace("yield", "yield "))


def _extra(folder: Path) -> None:
    (folder / "asyncio.py").write_text("evil")


def _link(folder: Path) -> None:
    (folder / "plugin.py").unlink()
    (folder / "plugin.py").symlink_to("/etc/passwd")


def _executable(folder: Path) -> None:
    (folder / "plugin.py").chmod(0o755)


def _unsigned(folder: Path) -> None:
    (folder / "plugin.sig").unlink()


@pytest.mark.parametrize(
    ("deed", "named"),
    [
        (_changed, "plugin.py: expected the content that is signed"),
        (_extra, "asyncio.py: expected only files that are signed"),
        (_link, "plugin.py: expected a plain file, found a link"),
        (_executable, "plugin.py: expected a file that is not executable"),
        (_unsigned, "nobody signed it"),
    ],
)
async def test_a_changed_folder_is_refused_by_name_and_what_runs_goes_on_from_the_store(
    strict, home, acme, workshop, deed, named
):
    acme.write("saying", "'as signed'", at=workshop).rename(home.plugins / "saying")
    kernel = strict(slots={"saying": "saying"})
    async with kernel.client() as client:
        await until_ready(client, "saying", "default")
        deed(home.plugins / "saying")
        assert named in await refusal_of(client, "saying")
        assert (await client.infer("x", model="saying")).text == "as signed"
        assert (await client.infer("echoed")).text == "echoed"
        with pytest.raises(Unavailable, match="saying is refused"):  # a new instance is not started
            await client.swap("saying", "saying")
        running = instance_of(await client.status(), "saying")
        os.kill(running.pid, signal.SIGKILL)  # the one that is there is restarted, from what was verified
        await until(client, lambda status: (one := instance_of(status, "saying")) and one.epoch > running.epoch)
        await until_ready(client, "saying")
        assert (await client.infer("x", model="saying")).text == "as signed"


async def test_a_new_version_stands_beside_the_old_until_a_swap(strict, home, acme, workshop):
    acme.write("saying", "'one'", at=workshop, version="1").rename(home.plugins / "saying")
    kernel = strict(slots={"saying": "saying"})
    async with kernel.client() as client:
        await until_ready(client, "saying")
        first = (await verdict_on(client, "saying")).digest
        new = acme.write("saying", "'two'", at=workshop, version="2")
        for path in (home.plugins / "saying").iterdir():
            shutil.copy(new / path.name, path)
        await until(client, lambda status: plugin_of(status, "saying").version == "2")
        assert (await client.infer("x", model="saying")).text == "one"
        await client.swap("saying", "saying")
        assert (await client.infer("x", model="saying")).text == "two"
        assert (home.store / first).is_dir()  # to go back to


async def test_an_older_version_is_refused_by_the_next_kernel_too_until_the_operator_allows_it(
    strict, start_kernel, home, acme, workshop
):
    acme.write("saying", "'two'", at=workshop, version="2").rename(home.plugins / "saying")
    kernel = strict()
    async with kernel.client() as client:
        await verdict_on(client, "saying")
    kernel.stop()
    shutil.rmtree(home.plugins / "saying")
    acme.write("saying", "'one'", at=workshop, version="1").rename(home.plugins / "saying")
    kernel = start_kernel(configured=False)
    async with kernel.client() as client:
        assert "version 1 is older than 2" in await refusal_of(client, "saying")
        for command in ("verify", "install"):  # what needs no kernel says what the kernel says
            said = await asyncio.to_thread(command_line, home, "driver", command, "saying")
            assert said.returncode == 1
            assert "saying is refused: version 1 is older than 2" in said.stderr
        write_list(home.trust / DOWNGRADES, Downgrades({"saying": ["1"]}))
        await until(client, lambda status: plugin_of(status, "saying").state == "available")
        await client.load("saying", slot="saying")
        assert (await client.infer("x", model="saying")).text == "one"


async def test_a_revoked_key_starts_nothing_more_and_stops_nothing(strict, home, acme, workshop):
    acme.write("saying", "'as signed'", at=workshop).rename(home.plugins / "saying")
    kernel = strict(slots={"saying": "saying"})
    async with kernel.client() as client:
        await until_ready(client, "saying")
        write_list(home.trust / REVOKED, Revoked(keys={acme.keys.public.id: "it was stolen"}))
        assert "which is revoked: it was stolen" in await refusal_of(client, "saying")
        assert (await client.infer("x", model="saying")).text == "as signed"
        with pytest.raises((Unavailable, PermissionDenied)):
            await client.swap("saying", "saying")
        assert (await client.infer("echoed")).text == "echoed"


async def test_a_key_that_becomes_trusted_admits_what_it_signed(strict, home, tmp_path, workshop):
    stranger = Publisher(home, tmp_path, "stranger", trusted=False)
    stranger.write("saying", "'hello'", at=workshop).rename(home.plugins / "saying")
    kernel = strict()
    async with kernel.client() as client:
        assert "unknown here" in await refusal_of(client, "saying")
        shutil.copy(tmp_path / "stranger.pub", home.trust / "stranger.pub")
        await until(client, lambda status: plugin_of(status, "saying").state == "available")


async def test_a_change_in_the_store_is_found_before_it_runs_and_repaired_from_the_folder(strict, home, acme, workshop):
    acme.write("saying", "'as signed'", at=workshop).rename(home.plugins / "saying")
    kernel = strict(slots={"saying": "saying"})
    async with kernel.client() as client:
        status = await until_ready(client, "saying")
        running = instance_of(status, "saying")
        stored = home.store / plugin_of(status, "saying").digest / "files" / "plugin.py"
        stored.parent.chmod(0o755)
        stored.chmod(0o644)
        stored.write_text(stored.read_text().replace("as signed", "as forged"))
        os.kill(running.pid, signal.SIGKILL)
        await until(client, lambda status: (one := instance_of(status, "saying")) and one.epoch > running.epoch)
        await until_ready(client, "saying")
        assert (await client.infer("x", model="saying")).text == "as signed"
    assert "plugin.py: expected the content that is signed, found another" in kernel.log


async def test_an_unsigned_folder_that_may_run_is_reported_loudly(start_kernel, home, workshop):
    from plugin_folder import write_plugin

    write_plugin(home, "own")
    kernel = start_kernel()
    async with kernel.client() as client:
        own = await verdict_on(client, "own")
        assert own.state == "available"
        assert "nobody signed it" in own.unsigned
        assert any("own runs UNSIGNED" in warning for warning in (await client.status()).warnings)
    assert "plugin own 1 runs UNSIGNED" in kernel.log


async def test_two_drivers_use_different_versions_of_one_package(strict, home, acme, workshop):
    says = "__import__('rich').version"
    acme.write("carried", says, at=workshop, files={"vendor/rich.py": "version = 'one'"}).rename(
        home.plugins / "carried"
    )
    lock = b"# what a lock of two lines would say\n"
    place = environment_of(home, lock)
    place.mkdir(parents=True)
    (place / "rich.py").write_text("version = 'two'")
    seal_environment(place, place)
    acme.write("locked", says, at=workshop, files={"requirements.lock": lock.decode()}).rename(home.plugins / "locked")
    kernel = strict(slots={"carried": "carried", "locked": "locked"})
    async with kernel.client() as client:
        await until_ready(client, "carried", "locked")
        assert (await client.infer("x", model="carried")).text == "one"
        assert (await client.infer("x", model="locked")).text == "two"
