"""Seals and records: a piece that is not what was sealed is refused, whatever about it is different."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from byenatos_kernel.pieces import Budget, Record, Seals
from byenatos_sdk.protocol.errors import InvalidRequest, Overloaded

SEALS = Seals()
LAYOUT, OWNER = "model=1 engine=2", "stream 7"


def sealed(start=0, stop=2, data=b"state", progress=b"p", seals=SEALS):
    return seals.seal(LAYOUT, OWNER, start, stop, data, progress)


def refused(piece, layout=LAYOUT, owner=OWNER, seals=SEALS):
    with pytest.raises(InvalidRequest):
        seals.check(piece, layout, owner)


@settings(max_examples=150)
@given(
    data=st.binary(max_size=300),
    progress=st.binary(max_size=40),
    start=st.integers(0, 1 << 62),
    more=st.integers(1, 99),
)
def test_what_was_sealed_is_let_through_and_nothing_else(data, progress, start, more):
    piece = sealed(start, start + more, data, progress)
    SEALS.check(piece, LAYOUT, OWNER)
    refused(piece, seals=Seals())
    refused(piece, layout=LAYOUT + " ")
    refused(piece, owner=OWNER + "0")
    for change in (
        {"start": start + 1},
        {"stop": start + more + 1},
        {"data": data + b"\0"},
        {"data": data[:-1] if data else b"x"},
        {"progress": progress + b"\0"},
        {"mac": piece.mac[:-1]},
        {"mac": bytes(32)},
    ):
        refused(msgspec.structs.replace(piece, **change))
    moved = msgspec.structs.replace(piece, owner="stream 8")
    refused(moved, owner="stream 8")
    other = msgspec.structs.replace(piece, layout="model=2")
    refused(other, layout="model=2")


@settings(max_examples=100)
@given(data=st.binary(min_size=1, max_size=300), place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_a_single_bit_that_is_another_one_is_found(data, place, bit):
    piece = sealed(data=data)
    wrong = bytearray(data)
    wrong[place % len(data)] ^= 1 << bit
    refused(msgspec.structs.replace(piece, data=bytes(wrong)))


def test_bytes_cannot_change_from_one_field_into_another():
    assert sealed(data=b"bc", progress=b"a").mac != sealed(data=b"c", progress=b"ab").mac
    assert SEALS.seal("ab", "c", 0, 1, b"", b"").mac != SEALS.seal("a", "bc", 0, 1, b"", b"").mac


def test_a_record_takes_pieces_one_behind_the_other():
    record = Record(OWNER, LAYOUT, Budget(1000))
    record.add(sealed(0, 2))
    for start, stop in ((0, 2), (3, 4), (1, 3), (2, 2)):
        with pytest.raises(InvalidRequest):
            record.add(sealed(start, stop))
    record.add(sealed(2, 5))
    assert record.stop == 5


def test_short_pieces_are_replaced_by_a_longer_one_and_the_budget_is_right():
    budget = Budget(1000)
    record = Record(OWNER, LAYOUT, budget)
    record.add(sealed(0, 4, b"x" * 100))
    record.loose = 1
    for start in range(4, 10, 2):
        record.add(sealed(start, start + 2, b"x" * 50))
    assert (record.loose_start, budget.used) == (4, 250)
    record.replace_loose([sealed(4, 9, b"x" * 120), sealed(9, 11, b"x" * 40)])
    assert [(one.start, one.stop) for one in record.pieces] == [(0, 4), (4, 9), (9, 11)]
    assert (record.loose_start, budget.used) == (9, 260)
    with pytest.raises(InvalidRequest):
        record.replace_loose([sealed(10, 12)])
    assert (record.stop, budget.used) == (11, 260)
    record.clear()
    assert budget.used == 0


def test_a_driver_that_exports_without_end_is_stopped_by_the_budget():
    budget = Budget(1000)
    record = Record(OWNER, LAYOUT, budget)
    for start in range(3):
        record.add(sealed(start, start + 1, b"x" * 300))
    with pytest.raises(Overloaded):
        record.add(sealed(3, 4, b"x" * 300))
    assert (len(record.pieces), budget.used) == (3, 900)
