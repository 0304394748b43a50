"""The operator's rules while the kernel runs: what is written counts, what is half written or wrong does not."""

import asyncio
import os

import pytest

from byenatos_kernel.access import Access, read_access
from byenatos_kernel.rules import Rules
from byenatos_kernel.shipped import access_file
from byenatos_sdk.home import Home


class Told:
    """A home and its rules, with all that was told of them."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.create()
        self.all: list[Access] = []
        self.rules = Rules(home, read_access(access_file(home)), quiet_s=0.0)
        self.rules.on_change = self.all.append

    async def write(self, text: str) -> None:
        self.home.access.write_text(text)
        await self.look()

    async def look(self, changed=None) -> None:
        self.rules.look(changed)
        while self.rules._file._timer is not None:
            await asyncio.sleep(0)


@pytest.fixture
def told(tmp_path):
    made = []

    def make() -> Told:
        made.append(Told(Home(tmp_path)))
        return made[0]

    yield make
    made[0].rules.close()


async def test_what_was_written_counts_once(told):
    one = told()
    await one.write("[isolation]\nuncontained = true\n")
    await one.look()
    assert [access.isolation.uncontained for access in one.all] == [True]
    assert one.rules.access is one.all[0]
    assert any("uncontained = true" in warning for warning in one.rules.warnings)
    one.home.access.unlink()
    await one.look()
    assert [access.isolation.uncontained for access in one.all] == [True, False]  # the shipped one
    assert one.rules.warnings == ()


async def test_a_file_that_is_wrong_changes_nothing_and_is_reported_until_it_is_corrected(told):
    one = told()
    await one.write("[drivers.acme]\nnetwork = ['api.acme.test:443']\n")
    await one.write("[drivers.acme]\nnetwork = ['api.acme.test']\n")
    assert [access.rules("acme").network for access in one.all] == [("api.acme.test:443",)]
    assert one.rules.access is one.all[0]
    (warning,) = one.rules.warnings
    assert "drivers.acme.network: expected 'host:port'" in warning
    assert "what it said before holds" in warning
    await one.write("[drivers.acme]\n")
    assert one.rules.warnings == ()
    assert len(one.all) == 2


async def test_a_file_that_is_being_written_is_waited_for(told):
    one = told()
    with one.home.access.open("w") as file:
        file.write("[isolation]\nrequired = []\n")
        file.flush()
        one.rules.look(None)
        for _ in range(100):
            await asyncio.sleep(0)
        assert one.all == []
    while not one.all:
        await asyncio.sleep(0)
    assert one.rules.access.isolation.required == frozenset()


async def test_what_changed_elsewhere_is_not_looked_at(told):
    one = told()
    one.home.access.write_text("[isolation]\nuncontained = true\n")
    await one.look({str(one.home.models / "a.gguf")})
    assert one.all == []
    await one.look({str(one.home.access)})
    assert len(one.all) == 1


async def test_a_variable_that_was_not_named_at_the_start_takes_a_new_start(told, monkeypatch):
    one = told()
    await one.write("[secrets.acme]\nenvironment = 'ACME_LATE'\n")
    (warning,) = one.rules.warnings
    assert "the variable ACME_LATE, which it did not name when the kernel was started" in warning
    assert "in the kernel's own environment" not in warning
    monkeypatch.setitem(os.environ, "ACME_LATE", "sk-0123456789")
    (warning,) = one.rules.warnings
    assert "until then the key is in the kernel's own environment" in warning
    assert "sk-0123456789" not in warning
    await one.write(f"[secrets.acme]\nfile = '{one.home.path}/key'\n")
    assert one.rules.warnings == ()
