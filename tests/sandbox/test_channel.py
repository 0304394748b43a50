import os
import socket
import stat

import pytest

from byenatos_sandbox.channel import open_channel


def test_no_path_leads_to_the_channel(tmp_path):
    ours, listener = open_channel(tmp_path)
    with ours, socket.socket(fileno=listener) as listening:
        assert not list(tmp_path.iterdir())
        its, _ = listening.accept()
        with its:
            its.sendall(b"hello")
            ours.setblocking(True)
            assert ours.recv(5) == b"hello"


def test_a_folder_with_a_very_long_path_will_do(tmp_path):
    folder = tmp_path / ("x" * 200)
    folder.mkdir(mode=0o700)
    ours, listener = open_channel(folder)
    with ours:
        assert stat.S_ISSOCK(os.fstat(listener).st_mode)
    os.close(listener)


def test_descriptors_that_a_driver_sends_along_are_refused_where_the_system_can(tmp_path):
    ours, listener = open_channel(tmp_path)
    with ours, socket.socket(fileno=listener) as listening:
        try:
            can = ours.getsockopt(socket.SOL_SOCKET, 83) == 0
        except OSError:
            pytest.skip("this system has no SO_PASSRIGHTS")
        assert can
        driver, _ = listening.accept()
        with driver, pytest.raises(PermissionError):
            socket.send_fds(driver, [b"x"], [ours.fileno()])
