"""``byenatos keys make``: a key that is shown once, and the table that lets it in."""

import hashlib
import json

import pytest

from byenatos_kernel.access import read_access


def made(run, *arguments):
    outcome = run("keys", "make", *arguments, "--json")
    assert outcome.code == 0, outcome.error
    return json.loads(outcome.out)


def test_the_table_lets_the_key_in_and_does_not_hold_it(run, home):
    given = made(run, "editor", "--slot", "coder", "--slot", 'a "b" \\ é', "--role", "admin", "--per-minute", "60")

    assert given["key"] not in given["table"]
    home.policies.mkdir(parents=True)
    home.access.write_text(given["table"])
    (client,) = read_access(home.access).clients
    assert client.sha256 == hashlib.sha256(given["key"].encode()).hexdigest()
    assert (client.name, client.role, client.per_minute) == ("editor", "admin", 60)
    assert client.slots == ("coder", 'a "b" \\ é')


def test_tables_can_stand_one_behind_the_other(run, home):
    home.policies.mkdir(parents=True)
    home.access.write_text("\n\n".join(made(run, name)["table"] for name in ("one", "two")))
    one, two = read_access(home.access).clients
    assert (one.name, two.name) == ("one", "two")
    assert one.sha256 != two.sha256


def test_people_are_shown_the_key_once_and_nothing_is_written(run, home):
    outcome = run("keys", "make", "editor")
    assert outcome.code == 0
    assert outcome.out.count("byn-") == 1
    assert "[[clients]]" in outcome.out
    assert str(home.access) in outcome.out
    assert not home.path.exists()


@pytest.mark.parametrize("arguments", [("Ed itor",), ("editor", "--slot", ""), ("editor", "--role", "root")])
def test_what_could_not_stand_in_the_file_is_refused(run, arguments):
    assert run("keys", "make", *arguments).code != 0
