"""What is printed behind a pipe, and what never reaches a terminal."""

import json

from byenatos_kernel.cli.meter import LineMeter
from byenatos_kernel.cli.screen import complain, megabytes, one_line, printable, show_json, show_json_line, show_table


def test_control_characters_of_a_model_do_not_reach_a_terminal():
    assert printable("a\x1b]0;owned\x07\x9b2Jb\r\tc\nd") == "a]0;owned2Jb\tc\nd"


def test_words_are_read_in_the_order_that_they_have():
    assert printable("model \u202egpj.exe\u2066 \u0627\u0644") == "model gpj.exe \u0627\u0644"


def test_what_must_be_one_line_is():
    assert one_line("failed\n  | and said\u2028last\x1b[2J") == "failed | and said last[2J"


def test_a_driver_cannot_make_a_row_of_its_own(capsys):
    show_table(("model", "detail"), [("bad", "oops\ngood  full"), ("b", "-")])
    assert capsys.readouterr().out.splitlines() == ["MODEL  DETAIL", "bad    oops good  full", "b      -"]


def test_only_the_first_line_of_a_complaint_stands_at_the_margin(capsys):
    complain("bad is refused: a\nbyenatos: all is well\u2028byenatos: yes\n  | its words")
    assert capsys.readouterr().err.splitlines() == [
        "byenatos: bad is refused: a",
        "  byenatos: all is well",
        "  byenatos: yes",
        "  | its words",
    ]


def test_json_moves_nothing_on_a_terminal_and_says_what_was_said(capsys):
    said = {"name": "\x9b2J\x1b]0;owned\x07\x7f\u202e ünï"}
    show_json(said)
    show_json_line(said)
    for text in (out := capsys.readouterr().out).split("}")[:2]:
        assert json.loads(text + "}") == said
    assert all(char == "\n" or char.isprintable() for char in out)
    assert "ünï" in out


def test_a_table_in_a_pipe_is_aligned_plain_and_never_cut(capsys):
    show_table(("model", "state"), [("m" * 300, "ready"), ("b", "x\x1b[31m")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["MODEL" + " " * 297 + "STATE", "m" * 300 + "  ready", "b" + " " * 301 + "x[31m"]


def test_sizes_are_written_for_people():
    assert [megabytes(98_362_432), megabytes(2_500_000_000)] == ["98.4 MB", "2.50 GB"]


def test_a_step_of_unknown_size_shows_no_percentages(capsys):
    with LineMeter() as meter:
        meter.begin("file", 0)
        meter.reach(5)
    assert capsys.readouterr().out == "file: size not known\n"


def test_each_tenth_is_printed_once(capsys):
    with LineMeter() as meter:
        meter.begin("file", 1000)
        for done in range(0, 1001, 10):
            meter.reach(done)
    assert len(capsys.readouterr().out.splitlines()) == 11
