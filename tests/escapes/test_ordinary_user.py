"""The same attacks, made by an ordinary user, where root runs the tests.

It is another run of the tests beside this one, because a process cannot be root again: it is started when the first
attack is made, and this file comes last.
"""

import os

import pytest

CEILING_S = 280


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user runs the tests already")
def test_the_attacks_get_nothing_from_an_ordinary_user_either(ordinary_user):
    if ordinary_user.impossible:
        pytest.skip(ordinary_user.impossible)
    status, output = ordinary_user.result(CEILING_S)
    assert status == 0, output
