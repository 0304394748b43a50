"""Log lines that drivers have had a hand in."""

import logging
import re

import pytest

from byenatos_kernel.log_lines import LogLines


def written(message, *arguments, **more):
    return LogLines().format(
        logging.LogRecord("byenatos", logging.WARNING, "x.py", 1, message, arguments, None, **more)
    )


def test_a_record_is_its_time_its_level_and_what_it_says():
    line = written("%s is %s", "echo", "ready")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING echo is ready", line)


@pytest.mark.parametrize(
    "words",
    [
        "no\n2026-01-01 00:00:00,000 INFO all is well",
        "no\r2026-01-01 00:00:00,000 INFO all is well",
        "no\u20282026-01-01 00:00:00,000 INFO all is well",
        "no\x852026-01-01 00:00:00,000 INFO all is well",
        "no\n\n2026-01-01 00:00:00,000 INFO all is well",
    ],
)
def test_what_a_driver_says_never_begins_a_record(words):
    lines = written("model bad is refused: %s", words).splitlines()
    assert [line for line in lines[1:] if line[:1].strip()] == []
    assert "all is well" in lines[-1]


@pytest.mark.parametrize(
    "command", ["\x1b[2J", "\x1b]0;owned\x07", "\x9b2J", "\u202e", "\u2066", "\x08", "\x7f", "\x00", "\ud800"]
)
def test_what_would_move_something_on_a_terminal_is_written_as_a_number(command):
    line = written("model bad is refused: %s", f"a{command}b")
    assert not any(char in line for char in command if not char.isprintable())
    assert f"a{command.encode('unicode_escape').decode()}b" in line
    line.encode()


def test_lines_that_are_indented_already_and_tabs_stay_as_they_are():
    assert written("driver failed%s", "\n  | its last words\tand more").endswith(
        "driver failed\n  | its last words\tand more"
    )
