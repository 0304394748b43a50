import os
import socket
import subprocess
import sys

from byenatos_sandbox.limits import Limits
from byenatos_sandbox.spec import Spec


def run_child(parent: int) -> subprocess.CompletedProcess[str]:
    with socket.socket(socket.AF_UNIX) as channel:
        limits = Limits(memory_mib=0, open_files=64, file_size_mib=1)
        spec = Spec(parent, channel.fileno(), "builtins:print", "", b"called", limits).write()
        try:
            return subprocess.run(
                [sys.executable, "-I", "-B", "-m", "byenatos_sandbox.child", str(spec)],
                pass_fds=(spec, channel.fileno()),
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            os.close(spec)


def test_a_child_of_the_expected_parent_calls_its_entry():
    done = run_child(os.getpid())
    assert done.returncode == 0
    assert "b'called'" in done.stdout


def test_a_child_whose_parent_is_gone_does_not_start():
    done = run_child(os.getppid())
    assert done.returncode == 70
    assert done.stdout == ""
    assert f"expected parent process {os.getppid()}, found {os.getpid()}" in done.stderr
