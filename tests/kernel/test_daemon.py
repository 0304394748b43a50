"""The command line of the kernel's process."""

import pytest

from byenatos_kernel import daemon


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--hme", "x"], "option --hme not recognized"),
        (["--home"], "option --home requires argument"),
        (["--attached", "me"], "--attached: expected a process id, found 'me'"),
        (["start"], "expected options, found 'start'"),
    ],
)
def test_a_mistake_is_named_beside_what_there_is(arguments, expected, capsys):
    assert daemon.main(arguments) == daemon.BAD_CONFIGURATION
    assert capsys.readouterr().err == f"{daemon.USAGE}\nbyenatos: {expected}\n"


def test_help_is_no_mistake(capsys):
    assert daemon.main(["--help"]) == 0
    assert capsys.readouterr().out == daemon.USAGE
