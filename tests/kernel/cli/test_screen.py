"""What is printed behind a pipe, and what never reaches a terminal."""

from byenatos_kernel.cli.meter import LineMeter
from byenatos_kernel.cli.screen import megabytes, printable, show_table


def test_control_characters_of_a_model_do_not_reach_a_terminal():
    assert printable("a\x1b]0;owned\x07\x9b2Jb\r\tc\nd") == "a]0;owned2Jb\tc\nd"


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
