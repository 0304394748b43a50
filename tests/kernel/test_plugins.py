"""The shelf: what becomes of plugin folders that come, change and go, whatever the verifier says."""

import shutil
from pathlib import Path

import pytest

from byenatos_kernel.database import Database
from byenatos_kernel.environments import environment_of, seal_environment
from byenatos_kernel.plugins import PluginShelf
from byenatos_kernel.trust import REVOKED, Revoked, write_list
from byenatos_kernel.verdicts import Order, Report
from byenatos_kernel.verifier import carry_out
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import PermissionDenied, Unavailable

MANIFEST = '[plugin]\nid = "{id}"\nversion = "{version}"\nentry = "driver:Driver"\n'


class Shelf:
    """A shelf over a home that lets unsigned folders run, with a verifier that can be made to fail."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.create()
        self.home.access.write_text("[plugins]\nunsigned = true\n")
        self.database = Database(self.home.database)
        self.orders: list[Order] = []
        self.while_asked = lambda: None
        self.failure: Unavailable | None = None
        self.used: set[str] = set()

    async def open(self) -> PluginShelf:
        self.database.open()
        self.shelf = PluginShelf(self.home, [self.home.plugins], self.database, ask=self.ask, quiet_s=0.0)
        self.shelf.in_use = lambda: self.used
        await self.shelf.start()
        return self.shelf

    async def ask(self, order: Order) -> Report:
        self.orders.append(order)
        report = carry_out(order)
        self.while_asked()
        if self.failure is not None:
            raise self.failure
        return report

    def write(self, id: str = "acme", version: str = "1", code: str = "") -> Path:
        folder = self.home.plugins / id
        folder.mkdir(exist_ok=True)
        (folder / "driver.py").write_text(code)
        (folder / "plugin.toml").write_text(MANIFEST.format(id=id, version=version))
        return folder

    async def look(self):
        self.shelf.scan()
        await self.shelf.verified()
        return self.shelf.entries.get("acme")

    def close(self) -> None:
        self.shelf.close()
        self.database.close()


@pytest.fixture
def made(tmp_path):
    made = Shelf(tmp_path)
    yield made
    made.close()


def stored(made) -> set[str]:
    return {path.name for path in made.home.store.iterdir()}


async def test_a_folder_is_verified_once_for_each_change(made):
    folder = made.write()
    shelf = await made.open()
    first = shelf.entries["acme"]
    assert (first.info.state, first.info.version) == ("available", "1")
    for _ in range(3):
        await made.look()
    assert len(made.orders) == 1
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "driver.pyc").touch()
    made.write(version="2")
    second = await made.look()
    assert (second.info.version, len(made.orders)) == ("2", 2)
    assert first.info.version == "1"  # what runs keeps the entry that it was started with


async def test_only_what_changed_is_looked_at_when_that_is_known(made):
    made.write("other")
    folder = made.write(version="1")
    shelf = await made.open()
    made.write(version="2")
    shelf.scan({str(made.home.models / "a.gguf"), str(made.home.plugins / "other" / "driver.py"), f"{folder}x"})
    await shelf.verified()
    assert shelf.entries["acme"].info.version == "1"
    shelf.scan({str(folder / "plugin.toml")})
    await shelf.verified()
    assert shelf.entries["acme"].info.version == "2"


async def test_a_folder_that_changes_while_it_is_verified_is_verified_again(made):
    made.write(version="1")
    await made.open()
    made.write(version="2")

    def change() -> None:
        made.while_asked = lambda: None
        made.write(version="3")
        made.shelf.scan()

    made.while_asked = change
    assert (await made.look()).info.version == "3"


async def test_the_version_before_is_kept_to_go_back_to_and_older_ones_go(made):
    made.write(version="1")
    shelf = await made.open()
    digests = [shelf.entries["acme"].digest]
    for version in ("2", "3"):
        made.write(version=version)
        digests.append((await made.look()).digest)
    made.write("other")
    await made.look()
    assert stored(made) == {*digests[1:], shelf.entries["other"].digest}


async def test_a_version_that_something_runs_from_is_kept(made):
    folder = made.write(version="1")
    shelf = await made.open()
    made.used = {shelf.entries["acme"].digest}
    shutil.rmtree(folder)
    assert await made.look() is None
    made.write("other")
    await made.look()
    assert made.used < stored(made)
    made.used = set()
    made.write("other", version="2")
    await made.look()
    assert len(stored(made)) == 2


async def test_a_verifier_that_fails_refuses_what_is_new_and_takes_nothing_from_what_was_there(made):
    made.write(version="1")
    shelf = await made.open()
    before = shelf.entries["acme"]
    made.failure = Unavailable("the verifier did not finish within 60 s")
    made.write(version="2")
    after = await made.look()
    assert after.info.state == "refused"
    assert after.reason == "could not be verified: the verifier did not finish within 60 s"
    assert after.declared is before.manifest
    assert shelf.load(before)["plugin.toml"]
    made.failure = None
    shelf._look_again()
    await shelf.verified()
    assert shelf.entries["acme"].info.state == "available"


async def test_what_was_changed_in_the_store_is_not_loaded_and_is_restored(made, until):
    made.write(code="as verified")
    shelf = await made.open()
    entry = shelf.entries["acme"]
    file = entry.stored / "driver.py"
    file.parent.chmod(0o755)
    file.chmod(0o644)
    file.write_text("as forged!!")
    with pytest.raises(
        Unavailable, match=r"driver\.py: expected the content that is signed, found another; it is rest"
    ):
        shelf.load(entry)
    await until(lambda: len(made.orders) == 2)
    await shelf.verified()
    assert shelf.load(entry)["driver.py"] == b"as verified"


async def test_what_was_revoked_is_not_started_again(made):
    made.write()
    shelf = await made.open()
    entry = shelf.entries["acme"]
    write_list(made.home.trust / REVOKED, Revoked(plugins={entry.digest: "it deletes files"}))
    refused = await made.look()
    assert refused.reason.endswith("is revoked: it deletes files")
    with pytest.raises(PermissionDenied, match="revoked: it deletes files"):
        shelf.load(entry)


async def test_the_highest_version_is_remembered_through_a_restart(made):
    made.write(version="2")
    await made.open()
    made.close()
    made.orders.clear()
    await made.open()
    assert made.orders[0].highest == (("acme", "", "2"),)


async def test_packages_that_were_touched_are_compared_before_anything_is_started(made):
    lock = b"# none\n"
    place = environment_of(made.home, lock)
    place.mkdir(parents=True)
    (place / "it.py").write_text("version = 1")
    seal_environment(place, place)
    (made.write() / "requirements.lock").write_bytes(lock)
    shelf = await made.open()
    shelf.load(shelf.entries["acme"])
    (place / "it.py").touch()
    with pytest.raises(Unavailable, match=r"its packages in .* were changed; they are compared"):
        shelf.load(shelf.entries["acme"])
    assert (await made.look()).info.state == "available"
    shelf.load(shelf.entries["acme"])
    (place / "more.py").touch()
    with pytest.raises(Unavailable, match="were changed"):
        shelf.load(shelf.entries["acme"])
    refused = await made.look()
    assert refused.info.state == "refused"
    assert refused.reason == (
        "its packages: more.py: expected no such file, found this one; install them again: byenatos driver install acme"
    )


# ---- versions that are held back --------------------------------------------------------------------------------


async def two_versions(made):
    """A shelf that has seen version 1 and then version 2; their digests."""
    made.write(version="1")
    shelf = await made.open()
    first = shelf.entries["acme"].digest
    made.write(version="2")
    return shelf, first, (await made.look()).digest


async def test_in_place_of_a_version_that_is_held_back_the_one_before_counts(made):
    shelf, first, second = await two_versions(made)
    await shelf.hold("acme", second, "is refused")
    info = shelf.entries["acme"].info
    assert (info.state, info.version, info.digest) == ("available", "1", first)
    assert info.held == "version 2 is refused; 1 runs instead"
    assert "the plugin acme: version 2 is refused; 1 runs instead" in shelf.warnings
    assert shelf.load(shelf.entries["acme"])
    await shelf.hold("acme", second, "")
    assert (shelf.entries["acme"].info.version, shelf.entries["acme"].held) == ("2", "")


async def test_what_is_held_back_stays_so_for_the_next_kernel(made):
    shelf, first, second = await two_versions(made)
    await shelf.hold("acme", second, "is refused", final=True)
    made.close()
    shelf = await made.open()
    assert shelf.entries["acme"].digest == first
    assert shelf.versions.find("acme", second).final
    shelf._look_again()
    await shelf.verified()
    assert shelf.entries["acme"].digest == first
    assert {first, second} <= stored(made)


async def test_other_files_are_another_version_and_what_was_held_back_is_not_gone_back_to(made):
    shelf, first, second = await two_versions(made)
    await shelf.hold("acme", second, "is refused", final=True)
    made.write(version="2", code="# mended")
    third = (await made.look()).digest
    assert third not in {first, second}
    assert shelf.versions.before("acme", third).digest == first
    made.write("other")
    await made.look()
    assert {first, third} <= stored(made)


async def test_a_version_that_cannot_be_held_on_disk_is_held_all_the_same(made):
    shelf, first, second = await two_versions(made)
    made.database.close()
    await shelf.hold("acme", second, "is refused")
    assert shelf.entries["acme"].digest == first


async def test_a_folder_that_is_no_plugin_is_named_and_so_is_the_one_that_was_meant(made):
    outer = made.home.plugins / "acme-1.0"
    outer.mkdir()
    (made.home.plugins / ".half-copied").mkdir()
    made.write("acme").rename(outer / "acme")
    shelf = await made.open()
    (stray,) = [warning for warning in shelf.warnings if "acme" in warning]
    assert stray.startswith(f"{outer}: expected a plugin folder, found no plugin.toml in it; is {outer / 'acme'} what")
