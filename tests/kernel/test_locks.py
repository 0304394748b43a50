"""Locks as they are written by the usual programs, and by somebody who wants more than packages."""

import pytest

from byenatos_kernel.locks import read_lock
from byenatos_sdk.protocol.errors import InvalidRequest

ONE, TWO = f"--hash=sha256:{'1' * 64}", f"--hash=sha256:{'2' * 64}"


@pytest.mark.parametrize(
    ("lock", "read"),
    [
        ("", ""),
        ("# nothing\n\n", ""),
        (f"it==1 {ONE}", f"it==1 {ONE}\n"),
        (f"it==1 \\\n    {ONE} \\\n    {TWO}\n    # via that\n", f"it==1 {ONE} {TWO}\n"),
        (f"it==1 \\\r\n    {ONE}\r\n", f"it==1 {ONE}\n"),
        (f"it[a,b]==1.0.post1+local {ONE}\nthat==2!1 {TWO}\n", f"it[a,b]==1.0.post1+local {ONE}\nthat==2!1 {TWO}\n"),
        (
            f"it==1 ; python_version < '3.12' and sys_platform == \"linux\" \\\n {ONE}",
            f"it==1 ; python_version < '3.12' and sys_platform == \"linux\" {ONE}\n",
        ),
        (f"# one \\\nit==1 {ONE}  # two \\\nthat==2 {TWO}\n", f"it==1 {ONE}\nthat==2 {TWO}\n"),
    ],
)
def test_what_is_named_is_written_anew(lock, read):
    assert read_lock(lock.encode()) == read
    assert read_lock(read.encode()) == read


@pytest.mark.parametrize(
    "lock",
    [
        "# a comment that goes on, for whoever joins lines first \\\n--no-binary=:all:\n",
        f"it==1 {ONE} \\\n--no-binary=:all:\n",
        f"it==1 {ONE} --no-binary=:all:",
        f"it==1 ; python_version > '3' --no-binary=:all: {ONE}",
        "it==1",
        f"it>=1 {ONE}",
        f"it @ https://x/it.whl {ONE}",
        f"./it==1 {ONE}",
        f"it==${{HOME}} {ONE}",
        f"it==1 {ONE} ${{HOME}}",
        f"it==1 {ONE.replace('sha256', 'md5')}",
        f"it==1 {ONE[:-1]}",
        "-r other.txt",
        "\u00a0--pre",
        f"it==1 {ONE}\x0b--pre",
        f"it==1 {ONE}\r--pre\n",
        f"it==1\u2028--pre {ONE}",
        f"# -*- coding: utf-7 -*-\nit==1+AAoALQAtAHAAcgBl-/ {ONE}",
        "it==1 '--pre'",
    ],
)
def test_what_is_more_than_packages_is_refused(lock):
    with pytest.raises(InvalidRequest, match=r"requirements\.lock: expected"):
        read_lock(lock.encode())


def test_a_comment_names_no_encoding():
    lock = f"# -*- coding: utf-7 -*-\nit==1+AAoALQ {ONE}\n"
    assert read_lock(lock.encode()) == f"it==1+AAoALQ {ONE}\n"
