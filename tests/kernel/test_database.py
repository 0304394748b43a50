"""The kernel's SQLite file: group commit, files that cannot be used, a full disk, and the end."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from byenatos_kernel.database import _SCHEMA, VERSION, Database
from byenatos_sdk.protocol.errors import ByenatosError, NotFound, Unavailable


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "kernel.db")
    database.open()
    yield database
    database.close()


def add(name: str, model: str = "a"):
    return lambda connection: connection.execute("INSERT INTO slots VALUES (?, ?, '')", (name, model)).rowcount


def names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM slots ORDER BY name")]


async def test_the_failure_of_one_job_undoes_neither_its_neighbours_nor_half_of_itself_only(database):
    def half(connection: sqlite3.Connection) -> None:
        add("half")(connection)
        raise NotFound("no such thing")

    def bug(connection: sqlite3.Connection) -> None:
        add("bug")(connection)
        raise TypeError("a programmer's mistake")

    jobs = [add("one"), half, add("one"), bug, add("two")]
    results = await asyncio.gather(*map(database.run, jobs), return_exceptions=True)
    assert results[0] == results[4] == 1
    assert isinstance(results[1], NotFound)
    assert type(results[2]) is ByenatosError
    assert str(database.path) in results[2].message
    assert isinstance(results[3], TypeError)
    assert await database.run(names) == ["one", "two"]


async def test_jobs_that_arrive_together_share_a_transaction(database):
    await database.run(names)

    def transaction(connection: sqlite3.Connection) -> int:
        return connection.total_changes

    async def held() -> list[int]:
        gate = asyncio.get_running_loop().create_future()

        async def one(number: int) -> int:
            await gate
            await database.run(add(f"slot {number}"))
            return await database.run(transaction)

        tasks = [asyncio.create_task(one(number)) for number in range(100)]
        await asyncio.sleep(0)
        gate.set_result(None)
        return await asyncio.gather(*tasks)

    assert max(await held()) == 100
    assert len(await database.run(names)) == 100


async def test_what_need_not_be_durable_does_not_wait_for_the_disk_unless_something_beside_it_must(database):
    def synchronous(connection: sqlite3.Connection) -> int:
        return connection.execute("PRAGMA synchronous").fetchone()[0]

    normal, full = 1, 2
    assert await database.run(synchronous, durable=False) == normal
    assert await database.run(synchronous) == full
    together = await asyncio.gather(*(database.run(synchronous, durable=durable) for durable in (False, True, False)))
    assert together[1] == full
    await database.run(add("kept"), durable=False)
    assert await database.run(names) == ["kept"]


async def test_a_row_that_cannot_be_read_is_an_error_of_its_reader_only(database):
    def reader(_: sqlite3.Connection) -> None:
        b"\xff".decode()

    with pytest.raises(ByenatosError, match="holds a row that cannot be read"):
        await database.run(reader)
    assert await database.run(names) == []


async def test_a_cancelled_job_disturbs_nobody(database):
    waiting = asyncio.create_task(database.run(add("one")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await database.run(names) == ["one"]


async def test_close_finishes_the_queue_and_may_be_repeated(tmp_path):
    database = Database(tmp_path / "kernel.db")
    database.open()
    pending = [asyncio.create_task(database.run(add(f"slot {number}"))) for number in range(20)]
    await asyncio.sleep(0)
    database.close()
    database.close()
    assert await asyncio.gather(*pending) == [1] * 20
    with pytest.raises(Unavailable, match="is closed"):
        await database.run(names)
    database.open()
    assert len(await database.run(names)) == 20
    database.close()


def test_a_file_of_another_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "kernel.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(Unavailable, match=f"expected version {VERSION}, found {VERSION + 1}"):
        Database(path).open()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)


@pytest.mark.parametrize(
    "content", [b"not a database, though long enough to be read as one".ljust(4096), b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "kernel.db"
    path.write_bytes(content)
    with pytest.raises(Unavailable, match=f"{path}: cannot be used: .*; move it away"):
        Database(path).open()
    assert path.read_bytes() == content


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"missing/kernel\.db: cannot be used"):
        Database(tmp_path / "missing" / "kernel.db").open()


async def test_a_file_of_the_version_before_is_brought_up_to_date_and_keeps_what_it_holds(tmp_path):
    path = tmp_path / "kernel.db"
    connection = sqlite3.connect(path)
    connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version=1; COMMIT;")
    connection.execute("INSERT INTO slots VALUES ('kept', 'model', '')")
    connection.commit()
    connection.close()
    database = Database(path)
    database.open()
    assert await database.run(names) == ["kept"]
    assert await database.run(lambda c: c.execute("SELECT count(*) FROM plugins").fetchone()[0]) == 0
    assert await database.run(lambda c: c.execute("PRAGMA user_version").fetchone()[0]) == VERSION
    database.close()


FULL_DISK = """
    import asyncio, json, resource, signal, sys
    from pathlib import Path
    from byenatos_kernel.database import Database
    from byenatos_sdk.protocol.errors import ByenatosError

    async def main():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        database = Database(Path(sys.argv[1]))
        database.open()
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, 1 << 30))
        codes = []
        for number in range(12):
            row = (f"slot {number}", "x" * (40 << 10))
            try:
                await database.run(lambda c: c.execute("INSERT INTO slots VALUES (?, ?, '')", row).rowcount)
                codes.append("stored")
            except ByenatosError as error:
                codes.append(error.code)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        await database.run(lambda c: c.execute("INSERT INTO slots VALUES ('after', '', '')").rowcount)
        count = await database.run(lambda c: c.execute("SELECT count(*) FROM slots").fetchone()[0])
        database.close()
        print(json.dumps([codes, count]))

    asyncio.run(main())
"""


def test_a_full_disk_fails_the_job_that_met_it_and_what_was_stored_stays(tmp_path):
    script = textwrap.dedent(FULL_DISK)
    output = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "kernel.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    codes, count = json.loads(output)
    assert set(codes) == {"stored", "internal"}, "the limit was not met, or everything failed"
    assert count == codes.count("stored") + 1
