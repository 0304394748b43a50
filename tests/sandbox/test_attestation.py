import asyncio
import os

from byenatos_sandbox import launch
from byenatos_sandbox.attestation import contradictions
from byenatos_sandbox.layers import missing


def test_an_ordinary_process_contradicts_every_claim():
    wrong = contradictions(os.getpid(), {"seccomp", "pid-namespace"})
    assert "it may gain privileges" in wrong
    assert "its system calls are not filtered" in wrong
    assert "it is not alone in a process namespace" in wrong


def test_a_process_that_is_gone_is_no_witness():
    assert contradictions(2**22 + 1, ()) == [
        "it cannot be looked at in /proc: it is gone, or /proc is mounted with hidepid"
    ]


def test_a_sandbox_contradicts_nothing(grant, talk):
    async def main():
        process = launch(grant(without=frozenset()), entry="sandbox_entries:wait", config=b"")
        await talk.answer(process)
        wrong = contradictions(process.pid, {name for name, state in process.layers.items() if state == "on"})
        process.kill()
        await talk.end(process)
        process.close()
        return wrong, {name for name, state in process.layers.items() if state != "on"}

    wrong, off = asyncio.run(main())
    assert wrong == []
    assert off == set(missing())
