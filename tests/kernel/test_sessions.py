"""Conversations that the kernel keeps, on a real database."""

import asyncio

import pytest

from byenatos_kernel import sessions
from byenatos_kernel.database import Database
from byenatos_kernel.sessions import TITLE_LENGTH, SessionStore
from byenatos_sdk.protocol.control import KeepOrder
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import assistant, user


@pytest.fixture
def store(tmp_path):
    database = Database(tmp_path / "kernel.db")
    database.open()
    yield SessionStore(database)
    database.close()


async def test_turns_are_numbered_and_come_back_in_order(store):
    transcript = await store.begin("talk", "main", "uid:0", (user("one"),))
    assert transcript == (user("one"),)
    await store.finish("talk", assistant("two"), model="a", moves=1, partial=False)
    assert await store.begin("talk", "main", "uid:0", (user("three"),)) == (
        user("one"),
        assistant("two"),
        user("three"),
    )
    shown = await store.show("talk")
    assert [turn.number for turn in shown.turns] == [1, 2, 3]
    assert [(turn.state, turn.model, turn.moves) for turn in shown.turns][1] == ("complete", "a", 1)
    assert shown.info.turns == 3


async def test_a_turn_that_was_never_answered_is_followed_by_the_next(store):
    await store.begin("talk", "main", "uid:0", (user("lost"),))
    assert len(await store.begin("talk", "main", "uid:0", (user("again"),))) == 2


async def test_sessions_at_once_do_not_mix(store):
    async def talk(name: str) -> None:
        for number in range(10):
            await store.begin(name, "main", "uid:0", (user(f"{name} {number}"),))
            await store.finish(name, assistant(f"{name} {number}"), model="a", moves=0, partial=False)

    names = [f"session {number}" for number in range(8)]
    await asyncio.gather(*map(talk, names))
    for name in names:
        texts = [turn.message.text for turn in (await store.show(name)).turns]
        assert texts == [f"{name} {number}" for number in range(10) for _ in range(2)]


async def test_the_latest_session_is_listed_first_under_the_words_that_began_it(store):
    await store.begin("old", "main", "uid:0", (user("What   is\n" + "x" * 200),))
    await store.begin("new", "main", "uid:0", (user("Hello"),))
    await store.finish("old", assistant("late"), model="a", moves=0, partial=True)
    first, second = await store.list()
    assert (first.id, second.id) == ("old", "new")
    assert first.title == ("What is " + "x" * 200)[:TITLE_LENGTH]
    assert second.title == "Hello"


async def test_a_session_that_was_removed_meanwhile_stays_removed(store):
    await store.begin("talk", "main", "uid:0", (user("one"),))
    await store.remove("talk")
    await store.finish("talk", assistant("two"), model="a", moves=0, partial=False)
    assert await store.list() == []
    for ask in (store.show, store.remove):
        with pytest.raises(NotFound, match="no session 'talk'"):
            await ask("talk")


async def test_a_turn_that_cannot_be_read_harms_only_its_session(store):
    for name in ("good", "bad"):
        await store.begin(name, "main", "uid:0", (user("one"),))
    await store._database.run(
        lambda connection: connection.execute("UPDATE turns SET message=x'c1' WHERE session='bad'").rowcount
    )
    with pytest.raises(ByenatosError, match="cannot be read"):
        await store.show("bad")
    assert len((await store.show("good")).turns) == 1
    await store.remove("bad")
    assert [one.id for one in await store.list()] == ["good"]


async def test_a_conversation_that_is_over_is_kept_with_its_note_under_an_id_of_its_own(store):
    order = KeepOrder("resp_1", "main", (user("one"), assistant("two")), b"note")
    await store.keep(order, "uid:0")
    shown = await store.show("resp_1")
    assert ([turn.message for turn in shown.turns], shown.note) == ([user("one"), assistant("two")], b"note")
    with pytest.raises(InvalidRequest, match="resp_1"):
        await store.keep(order, "uid:0")
    await store.remove("resp_1")
    await store.keep(order, "uid:0")


async def test_a_kept_conversation_is_replaced_only_as_it_was_read(store):
    await store.keep(KeepOrder("conv_1", "main", (user("one"),), b"first"), "uid:0")
    read = (await store.show("conv_1")).info
    await store.keep(KeepOrder("conv_1", "other", (user("two"),), b"second", read.updated_at), "uid:0")
    shown = await store.show("conv_1")
    assert ([turn.message for turn in shown.turns], shown.note) == ([user("two")], b"second")
    assert (shown.info.slot, shown.info.owner, shown.info.created_at) == ("other", "uid:0", read.created_at)
    assert shown.info.updated_at > read.updated_at
    with pytest.raises(InvalidRequest, match="changed since"):
        await store.keep(KeepOrder("conv_1", "main", (user("three"),), b"third", read.updated_at), "uid:0")
    assert (await store.show("conv_1")).note == b"second"
    with pytest.raises(NotFound):
        await store.keep(KeepOrder("conv_2", "main", (), b"", 1.5), "uid:0")


async def test_a_replaced_conversation_is_later_than_it_was_by_whatever_clock(store, monkeypatch):
    monkeypatch.setattr(sessions.time, "time", lambda: 1000.0)
    await store.keep(KeepOrder("conv_1", "main", (), b"0"), "uid:0")
    seen = [(await store.show("conv_1")).info.updated_at]
    for number in range(3):
        await store.keep(KeepOrder("conv_1", "main", (), b"%d" % number, seen[-1]), "uid:0")
        seen.append((await store.show("conv_1")).info.updated_at)
    assert seen == sorted(set(seen))


async def test_the_oldest_conversations_with_a_note_are_forgotten_and_all_others_stay(store, monkeypatch):
    monkeypatch.setattr(sessions, "KEPT_WITH_NOTES", 3)
    await store.begin("talk", "main", "uid:0", (user("one"),))
    for number in range(5):
        await store.keep(KeepOrder(f"resp_{number}", "main", (user("one"),), b"note"), "uid:0")
    assert {info.id for info in await store.list()} == {"talk", "resp_2", "resp_3", "resp_4"}
    read = (await store.show("resp_2")).info
    await store.keep(KeepOrder("resp_2", "main", (user("two"),), b"note", read.updated_at), "uid:0")
    await store.keep(KeepOrder("resp_5", "main", (user("one"),), b"note"), "uid:0")
    assert {info.id for info in await store.list()} == {"talk", "resp_2", "resp_4", "resp_5"}
    assert (await store.show("talk")).note == b""
