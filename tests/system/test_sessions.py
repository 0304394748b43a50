"""Sessions: what is stored, when, and what swaps and deaths leave of it."""

import asyncio
import os
import signal
import sqlite3

import msgspec
import pytest
from kernel_process import counting, instance_of, is_counted, numbers, until, until_ready
from plugin_folder import write_plugin

from byenatos_sdk.protocol.errors import Cancelled, DriverCrashed, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import Message, assistant, user


def stored(home):
    """What lies in the database now, read past the kernel."""
    connection = sqlite3.connect(f"file:{home.database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT session, message, state, moves FROM turns ORDER BY session, number"
        ).fetchall()
    finally:
        connection.close()
    decode = msgspec.msgpack.Decoder(Message).decode
    return [
        (session, decode(message).role, decode(message).text, state, moves) for session, message, state, moves in rows
    ]


async def test_a_users_turn_is_durable_before_its_answer_and_the_assistants_when_the_client_hears_the_end(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.session("talk").stream("count", extra=counting(20, 100))
        await anext(stream)
        assert stored(kernel.home) == [("talk", "user", "count", "complete", 0)]
        await stream.response()
        assert stored(kernel.home)[1:] == [("talk", "assistant", numbers(20), "complete", 0)]


async def test_every_turn_is_put_before_the_next_one(start_kernel, home):
    code = "from byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n    async def infer(self, request):\n"
    code += "        yield '|'.join(f'{m.role}:{m.text}' for m in request.messages)\n"
    write_plugin(home, "witness", code)
    kernel = start_kernel(default="witness")
    async with kernel.client() as client:
        await until_ready(client)
        session = client.session("talk")
        first = await session.infer("one")
        assert first.text == "user:one"
        assert (await session.infer("two")).text == "user:one|assistant:user:one|user:two"


async def test_a_session_has_a_title_a_count_and_can_be_removed(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.session("talk").infer("why is  the\nsky blue?")
        [info] = await client.sessions()
        assert (info.id, info.turns, info.title, info.slot) == ("talk", 2, "why is the sky blue?", "default")
        await client.remove_session("talk")
        assert await client.sessions() == []
        with pytest.raises(NotFound):
            await client.transcript("talk")
        with pytest.raises(NotFound):
            await client.remove_session("talk")


async def test_a_session_that_is_being_answered_takes_no_second_turn_and_is_not_removed(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        stream = client.session("talk").stream("count", extra=counting(50, 50))
        await anext(stream)
        with pytest.raises(InvalidRequest, match="still being answered"):
            await other.session("talk").infer("me too")
        with pytest.raises(InvalidRequest, match="being answered"):
            await other.remove_session("talk")
        assert (await stream.response()).text == numbers(50)
        assert [turn.message.role for turn in (await client.transcript("talk")).turns] == ["user", "assistant"]
        await other.session("talk").infer("now")


async def test_a_cancelled_turn_is_stored_as_partial_with_what_was_said(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        async with client.session("talk").stream("count", extra=counting(-1, 100)) as stream:
            await anext(stream)
        await until(client, lambda status: status.streams == 0)
        _, answer = (await client.transcript("talk")).turns
        assert answer.state == "partial"
        assert is_counted(answer.message.text)
        assert answer.message.text.startswith(stream.text)
        assert (await client.session("talk").infer("again")).text == "again"


async def test_a_turn_whose_driver_died_is_stored_as_partial(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        status = await until_ready(client)
        stream = client.session("talk").stream("count", extra=counting(-1, 100))
        await anext(stream)
        os.kill(instance_of(status, "echo").pid, signal.SIGKILL)
        with pytest.raises(DriverCrashed):
            await stream.response()
        _, answer = (await client.transcript("talk")).turns
        assert (answer.state, answer.message.text) == ("partial", stream.text)


async def test_a_turn_that_was_moved_by_swaps_is_stored_once_with_all_its_text(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as swapper:
        await until_ready(client)
        stream = client.session("talk").stream("count", extra=counting(300, 100))
        await anext(stream)
        for model in ("echo-two", "echo", "echo-two"):
            await swapper.swap("default", model, strategy="immediate")
        answer = await stream.response()
        assert (answer.text, len(answer.moves), answer.model) == (numbers(300), 3, "echo-two")
        assert stored(kernel.home) == [
            ("talk", "user", "count", "complete", 0),
            ("talk", "assistant", numbers(300), "complete", 3),
        ]
        [_, turn] = (await client.transcript("talk")).turns
        assert (turn.model, turn.moves) == ("echo-two", 3)


async def test_32_sessions_in_the_middle_of_their_turns_survive_swaps_each_with_its_own_text(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as swapper:
        await until_ready(client)
        streams = {
            f"talk {n}": client.session(f"talk {n}").stream("count", extra=counting(100 + n, 100)) for n in range(32)
        }
        for stream in streams.values():
            await anext(stream)
        for model, strategy in (("echo-two", "immediate"), ("echo", "graceful"), ("echo-two", "immediate")):
            await swapper.swap("default", model, strategy=strategy)
        for n, stream in enumerate(streams.values()):
            assert (await stream.response()).text == numbers(100 + n)
        rows = stored(kernel.home)
        assert len(rows) == 64
        for n in range(32):
            assert [row[1:4] for row in rows if row[0] == f"talk {n}"] == [
                ("user", "count", "complete"),
                ("assistant", numbers(100 + n), "complete"),
            ]


async def test_a_conversation_goes_on_at_another_model_after_a_swap(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        session = client.session("talk")
        await session.infer("one")
        await client.swap("default", "echo-two")
        await session.infer("two")
        assert [turn.model for turn in (await session.transcript()).turns] == ["", "echo", "", "echo-two"]


async def test_an_answer_that_the_user_began_is_stored_as_one_conversation(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        answer = await client.session("talk").infer([user("count"), assistant("0 1 ")], extra=counting(4))
        assert answer.text == "2 3 "
        assert [row[1:3] for row in stored(kernel.home)] == [
            ("user", "count"),
            ("assistant", "0 1 "),
            ("assistant", "2 3 "),
        ]


async def test_a_turn_cancelled_before_it_began_leaves_the_session_usable(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        for _ in range(50):
            stream = client.session("talk").stream("count", extra=counting(-1, 100))
            await stream.aclose()
        await until(client, lambda status: status.streams == 0)
        assert (await client.session("talk").infer("well?")).text == "well?"


async def test_many_sessions_at_once_are_each_stored_whole(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await asyncio.gather(*(client.session(f"talk {n}").infer(f"{n}") for n in range(500)))
        assert len(await client.sessions()) == 500
        assert sorted(stored(kernel.home)) == sorted(
            (f"talk {n}", role, f"{n}", "complete", 0) for n in range(500) for role in ("user", "assistant")
        )


async def test_a_client_that_leaves_in_the_middle_of_a_turn_leaves_it_partial(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        async with kernel.client() as leaving:
            await until_ready(client)
            stream = leaving.session("talk").stream("count", extra=counting(-1, 100))
            await anext(stream)
        with pytest.raises(Cancelled):
            await stream.response()
        await until(client, lambda status: status.streams == 0)
        assert (await client.transcript("talk")).turns[1].state == "partial"


async def test_the_database_stays_whole_when_the_kernel_is_killed_while_many_turns_are_stored(start_kernel):
    kernel = start_kernel()
    heard = set()

    async def talk(client, n):
        await client.session(f"talk {n}").infer(f"{n}")
        heard.add(n)

    async with kernel.client() as client:
        await until_ready(client)
        talks = [asyncio.create_task(talk(client, n)) for n in range(300)]
        await asyncio.wait(talks, return_when=asyncio.FIRST_COMPLETED)
        kernel.kill()
        await asyncio.gather(*talks, return_exceptions=True)
    rows = stored(kernel.home)
    assert heard
    for n in heard:
        assert [row[1:4] for row in rows if row[0] == f"talk {n}"] == [
            ("user", f"{n}", "complete"),
            ("assistant", f"{n}", "complete"),
        ]
    connection = sqlite3.connect(kernel.home.database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
