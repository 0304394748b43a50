"""The table of attacks says what the attacks say of themselves."""

import importlib.util
import sys
from pathlib import Path

from attacks.corpus import ATTACKS, NOT_STOPPED_YET

from byenatos_sandbox.linux import MACHINE
from byenatos_sandbox.syscalls import NUMBERS

HERE = Path(__file__).parent


def test_the_table_is_current():
    spec = importlib.util.spec_from_file_location("byenatos_test_table", HERE / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = table
    spec.loader.exec_module(table)
    assert table.TABLE.read_text() == table.text(), f"run `{Path(sys.executable).name} -m tests.escapes`"


def test_every_attack_says_what_stops_it():
    assert [attack.name for attack in ATTACKS.values() if not attack.stopped_by] == []


def test_no_attack_that_works_today_is_claimed_to_be_stopped_by_a_layer_of_today():
    today = {"landlock", "seccomp", "process", "limits", "channel"}
    assert [name for name in NOT_STOPPED_YET if today & set(ATTACKS[name].stopped_by)] == []


def test_every_call_that_is_made_by_its_name_has_a_number():
    sources = "".join(path.read_text() for path in (HERE / "attacks").glob("*.py"))
    names = {part.partition('"')[0] for part in sources.split('call("')[1:]}
    assert names <= set(NUMBERS["x86_64"]) | {"which"}, MACHINE
