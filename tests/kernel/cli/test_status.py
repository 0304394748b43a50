"""What ``byenatos slots`` says of slots beside their model and state."""

import pytest

from byenatos_kernel.cli.status import show_fronts, show_slots
from byenatos_sdk.protocol.control import FrontInfo, SlotInfo
from byenatos_sdk.protocol.messages import SwapEvent, SwapState

SWAP = SwapEvent(7, "main", "a", "b", "background", SwapState.PREPARED, 1.5)


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({}, ""),
        ({"detail": "a died; degraded to c"}, "a died; degraded to c"),
        ({"swap": SWAP}, "swap 7 to b is prepared"),
        ({"kept": "b"}, "b is kept: `byenatos swap main --back`"),
        ({"elsewhere": 1}, "1 session is answered elsewhere"),
        ({"detail": "slow", "elsewhere": 2}, "slow; 2 sessions are answered elsewhere"),
    ],
    ids=["nothing", "detail", "swap", "kept", "elsewhere", "all"],
)
def test_a_slot_says_what_else_there_is_to_know(capsys, monkeypatch, more, detail):
    monkeypatch.setenv("COLUMNS", "200")
    show_slots([SlotInfo("main", "a", "ready", waiting=12, **more)])
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["SLOT", "MODEL", "STATE", "STREAMS", "WAITING", "DETAIL"]
    assert line.split()[:5] == ["main", "a", "ready", "0", "12"]
    assert " ".join(line.split()[5:]) == detail


def test_a_front_says_where_it_listens_and_why_it_does_not_serve(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show_fronts([FrontInfo("http", "127.0.0.1:8421", 2, 2), FrontInfo("lines", "127.0.0.1:1", problem="no\nlines")])
    assert [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()] == [
        ["FRONT", "ADDRESS", "WORKERS", "DETAIL"],
        ["http", "127.0.0.1:8421", "2"],
        ["lines", "127.0.0.1:1", "0", "of 1   no lines"],
    ]
