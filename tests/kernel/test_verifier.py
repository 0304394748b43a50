"""The verifier as a process of its own: what it is asked, what it answers, and what it does when it cannot."""

import asyncio
import sys

import pytest

from byenatos_kernel import verifier
from byenatos_kernel.operator_key import is_new
from byenatos_kernel.shipped import shipped
from byenatos_kernel.verdicts import Order
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import Unavailable


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


async def test_a_new_home_gets_a_key_and_what_ships_is_signed_verified_and_stored(home):
    order = Order(str(home.path), (str(shipped("plugins") / "echo"),))
    report = await verifier.ask(order)
    [verdict] = report.verdicts
    assert (verdict.reason, verdict.publisher) == ("", "operator")
    assert "made the operator's key" in report.notes[0]
    assert not is_new(home)
    assert (home.store / verdict.digest / "files" / "driver.py").exists()
    assert not (await verifier.ask(order)).notes


async def test_a_folder_that_is_not_there_is_refused_and_the_others_are_verified(home):
    folders = (str(home.plugins / "nothing"), str(shipped("plugins") / "echo"))
    gone, echo = (await verifier.ask(Order(str(home.path), folders))).verdicts
    assert "cannot be read" in gone.reason
    assert echo.reason == ""


async def test_rules_that_cannot_be_read_refuse_everything_with_the_reason(home):
    home.access.write_text("[plugins]\nunsigned = 'yes'\n")
    [verdict] = (await verifier.ask(Order(str(home.path), (str(shipped("plugins") / "echo"),)))).verdicts
    assert "access.toml: " in verdict.reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.stdin.read(); sys.exit('it broke')", "ended with status 1: it broke"),
        ("import sys; sys.stdin.read(); print('rubbish')", "report cannot be read"),
        ("print('x' * (9 << 20))", "said more than"),
        ("import time; time.sleep(1e6)", "did not finish within"),
    ],
)
async def test_a_verifier_that_fails_is_named_and_leaves_no_process(home, monkeypatch, tmp_path, code, said):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{code}\n")
    script.chmod(0o755)
    monkeypatch.setattr(verifier.sys, "executable", str(script))
    monkeypatch.setattr(verifier, "TIME_S", 1.0 if "sleep" in code else 60.0)
    with pytest.raises(Unavailable, match=said):
        await verifier.ask(Order(str(home.path), ()))
    assert len(asyncio.all_tasks()) == 1


async def test_a_verifier_that_cannot_be_started_is_named(home, monkeypatch):
    monkeypatch.setattr(verifier.sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable, match="could not be started"):
        await verifier.ask(Order(str(home.path), ()))
