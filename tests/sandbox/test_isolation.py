import asyncio
import sys

import pytest

from byenatos_sandbox import Grant, NotIsolated, isolation_level, launch, missing_layers
from byenatos_sandbox.checkup import check_up
from byenatos_sandbox.lack import Lack
from byenatos_sandbox.layers import LAYERS, missing
from byenatos_sandbox.process import Process


@pytest.mark.parametrize(
    ("layers", "opened", "words"),
    [
        ([], [], "full"),
        (["cgroup"], [], "without control group"),
        (["landlock", "mount-namespace"], [], "without private root, Landlock"),
        (["seccomp"], ["system-calls"], "WITHOUT system-calls isolation; without system call filter"),
        (LAYERS, ["network"], "WITHOUT network isolation; no layer at all"),
    ],
)
def test_the_level_is_said_in_words(layers, opened, words):
    assert isolation_level(dict.fromkeys(layers, "missing"), dict.fromkeys(opened, "it got through")) == words


def test_a_refusal_names_the_process_the_kind_what_got_through_and_what_to_do():
    error = NotIsolated.of("acme/large", {"network": "a datagram could be sent"})
    assert error.code == "permission_denied"
    assert error.message.startswith(
        "acme/large may not run here: it must have network isolation (a datagram could be sent)"
    )
    assert "`byenatos doctor`" in error.message
    assert "isolation.required" in error.message


def test_a_process_that_surely_lacks_what_it_must_have_is_not_made(grant, monkeypatch):
    async def main():
        with pytest.raises(NotIsolated, match=r"test/driver may not run here: .*there is no system call filter"):
            launch(grant(required=frozenset({"system-calls"})), entry="sandbox_entries:wait", config=b"")

    monkeypatch.setattr(sys.modules[launch.__module__], "lacks", lambda: {"seccomp": Lack("there is none", "get one")})
    asyncio.run(main())


def test_a_process_that_finds_a_required_kind_open_is_killed_before_its_code_runs(grant, talk):
    async def main() -> tuple[Process, str]:
        must = grant(required=frozenset({"system-calls"}), without=frozenset({"seccomp"}))
        process = launch(must, entry="sandbox_broken_entry:run", config=b"")
        end = await talk.end(process)
        process.close()
        return process, end.describe()

    process, end = asyncio.run(main())
    assert end.startswith("may not run here: it must have system-calls isolation (")
    assert process.refusal is not None
    assert process.refusal.message == f"test/driver {end}"
    assert process.output() == ()


def test_what_is_missing_here_is_what_a_checkup_finds():
    found = asyncio.run(check_up())
    assert found.failure == ""
    assert set(found.layers) == set(missing())
    assert len(missing_layers()) == len(missing())


def test_a_checkup_of_a_machine_with_all_layers_finds_nothing_open():
    if set(missing()) - {"cgroup"}:
        pytest.skip("this machine lacks layers")
    assert asyncio.run(check_up()).open == {}
    assert Grant("checkup").required == frozenset()
