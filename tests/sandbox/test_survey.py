"""What a sandbox cannot do on a machine is found out beforehand, not at each launch."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from byenatos_sandbox.layers import missing

SURVEY = """
    import errno, sys
    sys.path.insert(0, sys.argv[1])
    import weak_machine
    from byenatos_sandbox import bpf, survey
    from byenatos_sandbox.linux import MACHINE, prctl
    from byenatos_sandbox.syscalls import NUMBERS

    prctl(weak_machine.NO_NEW_PRIVS, 1)
    answer = bpf.KILL if sys.argv[3] == "KILL" else bpf.errno(getattr(errno, sys.argv[3]))
    weak_machine.install({NUMBERS[MACHINE][sys.argv[2]]: answer})
    survey.main()
"""


@pytest.mark.skipif("mount-namespace" in missing(), reason="no mount namespace here")
@pytest.mark.parametrize(
    ("call", "answer", "words"),
    [
        ("open_tree", "ENOSYS", ["open_tree: ", "too old", "Linux 5.12"]),
        ("mount_setattr", "ENOSYS", ["mount_setattr: ", "too old", "Linux 5.12"]),
        ("pivot_root", "EINVAL", ["pivot_root: ", "initial ramdisk"]),
        ("pivot_root", "KILL", ["killed by signal 31"]),
    ],
)
def test_a_machine_that_refuses_a_step_of_the_private_root_lacks_mount_namespaces(call, answer, words):
    command = [sys.executable, "-c", textwrap.dedent(SURVEY), str(Path(__file__).parent), call, answer]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert set(found) - missing().keys() == {"mount-namespace"}
    said = " ".join(found["mount-namespace"].values())
    assert [word for word in words if word not in said] == []
