import asyncio
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from byenatos_sandbox import LaunchError, attempt, launch
from byenatos_sandbox.layers import LAYERS


def facts(grant, talk, config=b"", **fields):
    """What a process with this grant says about itself, and its exit."""

    async def main():
        process = launch(grant(**fields), entry="sandbox_entries:facts", config=config)
        known = await talk.answer(process)
        end = await talk.end(process)
        process.close()
        assert end.describe() == "exited with status 0", process.output()
        return known

    return asyncio.run(main())


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_the_entry_is_called_with_its_channel_and_config(grant, talk):
    known = facts(grant, talk, config="Grüße".encode())
    assert known["config"] == "Grüße"
    assert known["stdin"] == ""


def test_the_environment_holds_only_what_was_granted(grant, talk, monkeypatch):
    monkeypatch.setenv("ACME_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    known = facts(grant, talk, environment={"GGML_DEBUG": "1"}, threads=3)
    assert known["environment"] == {
        "HOME": known["folder"],
        "TMPDIR": known["folder"],
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "LOGNAME": "driver",
        "USER": "driver",
        "OMP_NUM_THREADS": "3",
        "PATH": "/usr/bin:/bin",
        "TZ": "Europe/Berlin",
        "GGML_DEBUG": "1",
    }


def test_no_descriptor_but_the_channel_and_the_standard_three_is_open(grant, talk, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        known = facts(grant, talk)
    assert known["descriptors"] == [0, 1, 2, known["channel"]]


def test_the_process_leads_a_session_and_a_group_of_its_own(grant, talk):
    known = facts(grant, talk)
    assert known["group"] == known["session"] == known["pid"]


def test_no_new_privileges_can_be_gained(grant, talk):
    assert facts(grant, talk)["no_new_privs"] == "1"


def test_no_core_is_dumped_and_nobody_of_this_user_may_trace_it(grant, talk):
    assert facts(grant, talk)["dumpable"] == 0


def test_limits_are_as_granted(grant, talk):
    mib = 1 << 20
    limits = facts(grant, talk, open_files=100, file_size_mib=3, memory_mib=512)["limits"]
    assert limits["CORE"] == [0, 0]
    assert limits["NOFILE"] == [100, 100]
    assert limits["FSIZE"] == [3 * mib, 3 * mib]
    assert limits["DATA"] == [512 * mib, 512 * mib]
    assert limits["STACK"][0] == 8 * mib


def test_memory_is_unbounded_when_the_grant_says_so(grant, talk):
    assert facts(grant, talk)["limits"]["DATA"][0] == resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_the_scratch_folder_is_private_and_removed_at_the_end(grant, talk, tmp_path):
    known = facts(grant, talk)
    assert known["folder_mode"] == 0o700
    assert known["mask"] == 0o077
    assert Path(known["folder"]).parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_signal_settings_of_the_parent_are_not_inherited(grant, talk):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        known = facts(grant, talk)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGTERM, before)
    assert known["terminate_default"]
    assert known["interrupt_ignored"]
    assert int(known["blocked"], 16) == 0


def test_the_channel_carries_bytes_both_ways(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:echo", config=b"")
        assert not process.channel.getblocking()
        await asyncio.get_running_loop().sock_sendall(process.channel, b'"there and back"\n')
        answer = await talk.answer(process)
        process.close()
        await talk.end(process)
        return answer

    assert asyncio.run(main()) == "there and back"


def test_missing_layers_are_named(grant, talk, monkeypatch):
    async def main():
        process = launch(grant(without=frozenset({"seccomp"})), entry="sandbox_entries:wait", config=b"")
        process.close()
        await talk.end(process)
        return process.layers

    monkeypatch.setattr(attempt, "missing", lambda: {"landlock": "this kernel has none"})
    layers = asyncio.run(main())
    assert list(layers) == ["process", *LAYERS]
    assert layers["process"] == "on"
    assert layers["landlock"] == "missing: this kernel has none"
    assert layers["seccomp"] == "off: left out by the grant"


PARENT = """
    import asyncio, os, signal, sys
    from byenatos_sandbox import Grant, launch

    async def main():
        grant = Grant("test/orphan", plugin=sys.argv[1], scratch_root=sys.argv[2])
        process = launch(grant, entry="sandbox_entries:wait_for_ever", config=b"")
        await asyncio.get_running_loop().sock_recv(process.channel, 100)
        print(process.pid, flush=True)
        signal.pause()

    asyncio.run(main())
"""


def test_a_sandbox_dies_with_a_parent_that_is_killed(grant, talk, tmp_path):
    arguments = [sys.executable, "-c", textwrap.dedent(PARENT), grant().plugin, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        try:
            orphan = os.pidfd_open(int(parent.stdout.readline()))
        finally:
            parent.kill()
    assert talk.gone(orphan)


def test_no_descriptor_leaks_over_many_launches(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:leave_with_status", config=b"0")
        await talk.end(process)
        process.close()
        gc.collect()
        before = open_descriptors()
        for batch in range(10):
            processes = [launch(grant(), entry="sandbox_entries:wait", config=b"") for _ in range(4)]
            with pytest.raises(LaunchError):
                launch(grant(scratch_root="/nowhere"), entry="sandbox_entries:wait", config=b"")
            for process in processes:
                process.kill() if batch % 2 else process.close()
            for process in processes:
                await talk.end(process)
                process.close()
        assert open_descriptors() == before

    asyncio.run(main())


def test_a_launch_that_runs_out_of_descriptors_anywhere_leaves_nothing_behind(grant, talk, tmp_path):
    async def main():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # the limit is about descriptor numbers: leave none free below the first one that it forbids
        highest = max(int(name) for name in open_descriptors())
        fillers = [os.dup(0)]
        while fillers[-1] < highest:
            fillers.append(os.dup(0))
        before = open_descriptors()
        failures = 0
        for allowed in range(fillers[-1] + 1, fillers[-1] + 30):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            try:
                process = launch(grant(), entry="sandbox_entries:wait", config=b"")
            except LaunchError:
                failures += 1
            else:
                break
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert open_descriptors() == before
            assert not list(tmp_path.iterdir())
        process.close()
        await talk.end(process)
        for filler in fillers:
            os.close(filler)
        return failures

    assert asyncio.run(main()) >= 8


def test_an_interpreter_that_is_missing_is_named(grant, monkeypatch, tmp_path):
    async def main():
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        before = open_descriptors()
        with pytest.raises(LaunchError, match=r"test/driver: cannot start a process: .*'/nowhere/python'"):
            launch(grant(), entry="sandbox_entries:wait", config=b"")
        assert open_descriptors() == before
        assert not list(tmp_path.iterdir())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "entry", "message"),
    [
        ({}, "os.system", "entry: expected 'module:function', found 'os.system'"),
        ({"plugin": "/nowhere/acme"}, "a:b", "plugin: expected a folder, found none at /nowhere/acme"),
    ],
)
def test_wrong_orders_are_refused_with_what_was_expected(grant, fields, entry, message):
    async def main():
        with pytest.raises(LaunchError, match=message):
            launch(grant(**fields), entry=entry, config=b"")

    asyncio.run(main())


def test_a_granted_pipe_is_refused_and_holds_nothing_up(grant, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "scratch").mkdir()

    async def main():
        before = open_descriptors()
        with pytest.raises(LaunchError, match=r"test/driver: .*files: expected a regular file or a folder at .*pipe"):
            launch(
                grant(files=(str(tmp_path / "pipe"),), scratch_root=str(tmp_path / "scratch")),
                entry="sandbox_entries:wait",
                config=b"",
            )
        assert open_descriptors() == before

    asyncio.run(main())


def test_code_without_a_folder_to_show_it_in_is_refused(grant):
    async def main():
        with pytest.raises(LaunchError, match=r"plugin: expected the folder in which the files .* found none"):
            launch(grant(plugin=""), entry="a:b", config=b"", code={"a.py": b""})

    asyncio.run(main())


def test_a_granted_file_that_the_code_would_cover_is_refused(grant, tmp_path):
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "weights").write_text("weights")
    (tmp_path / "link").symlink_to("plugin")

    async def main():
        covered = grant(plugin=str(tmp_path / "plugin"), files=(str(tmp_path / "link" / "weights"),))
        with pytest.raises(LaunchError, match=r"files: expected them outside of the plugin folder, .*link/weights"):
            launch(covered, entry="a:b", config=b"", code={"a.py": b""})

    asyncio.run(main())


def test_a_granted_device_that_is_none_is_refused(grant, tmp_path):
    async def main():
        with pytest.raises(LaunchError, match=r"devices: expected character devices, found .* at /"):
            launch(grant(devices=("/dev/null", str(tmp_path))), entry="a:b", config=b"")

    asyncio.run(main())


def test_a_launch_where_exits_would_go_unseen_is_refused(grant):
    async def main():
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with pytest.raises(LaunchError, match="expected SIGCHLD at its default, found it ignored"):
                launch(grant(), entry="sandbox_entries:wait", config=b"")
        finally:
            signal.signal(signal.SIGCHLD, before)

    asyncio.run(main())


def test_a_launch_without_an_event_loop_is_refused(grant):
    with pytest.raises(LaunchError, match="expected a running event loop, found none"):
        launch(grant(), entry="sandbox_entries:wait", config=b"")


def test_a_launch_from_another_thread_is_refused(grant):
    found = []

    async def main():
        try:
            launch(grant(), entry="sandbox_entries:wait", config=b"")
        except LaunchError as error:
            found.append(str(error))

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="worker")
    thread.start()
    thread.join()
    assert "expected to be launched in the main thread, found 'worker'" in found[0]


def test_the_port_of_the_broker_is_found_at_descriptor_4_and_the_channel_at_3(grant, talk):
    async def main():
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, its:
            process = launch(grant(), entry="sandbox_entries:egress", config=b"", egress=its)
            ours.send(b"a word")
            known = await talk.answer(process)
            await talk.end(process)
            process.close()
        return known

    assert asyncio.run(main()) == {"channel": 3, "heard": "a word"}
