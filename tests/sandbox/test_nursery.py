"""Sandboxed templates: a library is imported once, inside, and every instance is as locked in as any driver."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from byenatos_sandbox import LaunchError, Preload, Templates, launch, open_nursery
from byenatos_sandbox.layers import missing
from byenatos_sandbox.parts import SENDERS, missing_parts

LACKING = sorted((missing().keys() - {"cgroup"}) | (missing_parts().keys() & {SENDERS}))
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"this machine lacks layers: {', '.join(LACKING)}")

CODE = b"import os\nIMPORTED_BY = os.getpid()\n"
ENTRIES = b"""
import json, os, socket, subprocess, sys

def tell(channel, config):
    with socket.socket(fileno=channel) as listener:
        connection = listener.accept()[0]
    told = {"here": os.getpid(), "folder": os.getcwd(), "config": config.decode()}
    told["imported by"] = sys.modules["slow_library"].IMPORTED_BY
    attempts = {"fork": os.fork, "socket": socket.socket, "memory file": lambda: os.memfd_create("x")}
    for name, attempt in attempts.items():
        try:
            attempt()
            told[name] = "worked"
        except OSError as error:
            told[name] = error.strerror
    connection.sendall(json.dumps(told).encode() + b"\\n")
    while connection.recv(100):
        pass

def count(channel, config):
    import resource
    with socket.socket(fileno=channel) as listener:
        connection = listener.accept()[0]
    connection.sendall(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)[1]).encode() + b"\\n")
    connection.recv(100)

def leave(channel, config):
    os._exit(int(config))

def nest(channel, config):
    try:
        while True:
            os.mkdir("deeper")
            os.chdir("deeper")
    except OSError as error:
        print(error.strerror, flush=True)

def trip(channel, config):
    import ctypes
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
"""
FILES = {"slow_library.py": CODE, "instance.py": ENTRIES}


def nursery_of(grant, templates, preload=("slow_library",), files=FILES):
    return open_nursery(grant(without=frozenset()), preload=Preload(preload), code=files, templates=templates)


def test_instances_find_the_library_imported_and_are_locked_in(grant, talk):
    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates)
        whole = grant(without=frozenset())
        processes = [
            launch(whole, entry="instance:tell", config=str(number).encode(), nursery=nursery) for number in range(3)
        ]
        found = [(await talk.answer(process), process.open) for process in processes]
        pids = {process.pid for process in processes}
        ends = []
        for process in processes:
            process.kill()
            ends.append((await talk.end(process)).describe())
            process.close()
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return found, pids, ends

    found, pids, ends = asyncio.run(main())
    assert [told["config"] for told, _ in found] == ["0", "1", "2"]
    assert {told["imported by"] for told, _ in found} == {1}
    assert len({told["here"] for told, _ in found}) == len({told["folder"] for told, _ in found}) == len(pids) == 3
    for told, is_open in found:
        assert told["here"] > 1
        assert told["fork"] == told["socket"] == told["memory file"] == "Operation not permitted"
        assert is_open == {}
    assert set(ends) <= {"was killed by SIGKILL", "ended"}


@pytest.mark.parametrize("open_files", [16, 64])
def test_few_descriptors_are_enough_for_a_template_and_its_instances(grant, talk, open_files):
    async def main():
        templates = Templates()
        fields = {"without": frozenset(), "open_files": open_files}
        nursery = open_nursery(
            grant(**fields, instances=5), preload=Preload(("slow_library",)), code=FILES, templates=templates
        )
        processes = [launch(grant(**fields), entry="instance:count", config=b"", nursery=nursery) for _ in range(5)]
        found = [await talk.answer(process) for process in processes]
        for process in processes:
            process.kill()
            await talk.end(process)
            process.close()
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return found

    assert asyncio.run(main()) == [open_files] * 5


def ends_of(grant, talk, entry, config=b"", act=None):
    """How an instance ends."""

    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates)
        process = launch(grant(without=frozenset()), entry=entry, config=config, nursery=nursery)
        if act is not None:
            await talk.answer(process)
            act(nursery, process)
        end = await talk.end(process)
        process.close()
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return end.describe()

    return asyncio.run(main())


def test_a_status_is_reported_where_the_system_tells_it(grant, talk):
    assert ends_of(grant, talk, "instance:leave", b"7") in {"exited with status 7", "ended"}


def test_a_fatal_call_of_an_instance_kills_it_alone(grant, talk):
    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates)
        bad = launch(grant(without=frozenset()), entry="instance:trip", config=b"", nursery=nursery)
        end = await talk.end(bad)
        good = launch(grant(without=frozenset()), entry="instance:tell", config=b"", nursery=nursery)
        await talk.answer(good)
        good.kill()
        await talk.end(good)
        good.close()
        bad.close()
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return end.describe()

    assert asyncio.run(main()) in {"was killed by SIGSYS (it made a system call that a sandbox forbids)", "ended"}


def test_an_instance_dies_with_its_template(grant, talk):
    end = ends_of(grant, talk, "instance:tell", act=lambda nursery, _: os.kill(nursery.process.pid, signal.SIGKILL))
    assert end in {"was killed by SIGKILL", "ended"}


def test_a_library_that_cannot_be_imported_ends_its_instances_and_says_why(grant, talk):
    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates, preload=("broken",), files=FILES | {"broken.py": b"1 / 0"})
        process = launch(grant(without=frozenset()), entry="instance:tell", config=b"", nursery=nursery)
        end = await talk.end(process)
        process.close()
        await talk.end(nursery.process)
        said = nursery.process.output()
        assert not nursery.alive
        templates.close()
        return end.describe(), said

    end, said = asyncio.run(main())
    assert end.startswith("could not be started: its sandboxed template exited with status 1: ZeroDivisionError")
    assert said[-1] == "ZeroDivisionError: division by zero"


def test_a_library_that_starts_threads_is_not_forked_from(grant, talk):
    code = b"import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"

    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates, preload=("threaded",), files=FILES | {"threaded.py": code})
        process = launch(grant(without=frozenset()), entry="instance:tell", config=b"", nursery=nursery)
        end = await talk.end(process)
        process.close()
        await talk.end(nursery.process)
        templates.close()
        return end.describe()

    assert "its sandboxed template was ended: it has 2 threads" in asyncio.run(main())


def test_scratch_folders_of_instances_that_ended_are_removed(grant, talk):
    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates)
        for _ in range(40):
            process = launch(grant(without=frozenset()), entry="instance:leave", config=b"0", nursery=nursery)
            await talk.end(process)
            process.close()
        code = "instance:tell"
        process = launch(grant(without=frozenset()), entry=code, config=b"", nursery=nursery)
        told = await talk.answer(process)
        process.kill()
        await talk.end(process)
        process.close()
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return told

    assert asyncio.run(main())["folder"].startswith("/scratch/instance-")


def test_folders_nested_without_end_do_not_end_a_template(grant, talk):
    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates)
        said = []
        for _ in range(3):
            process = launch(grant(without=frozenset()), entry="instance:nest", config=b"", nursery=nursery)
            await talk.end(process)
            said += process.output()
            process.close()
        alive = nursery.alive
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return said, alive

    assert asyncio.run(main()) == (["No space left on device"] * 3, True)


HOSTILE = b"""
import array, os, signal, socket, sys
from byenatos_sandbox import child, descriptors

def keep_silent(setup, streams, folder, *, alive):
    signal.pause()

def hang_up(setup, streams, folder, *, alive):
    os._exit(0)

def send(setup, data, given=()):
    with socket.socket(fileno=os.dup(setup)) as connection:
        connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))] if given else [])

def lie(setup, streams, folder, *, alive):
    send(setup, b"here")
    send(setup, b"\\x82\\xa7failure\\xa0\\xa4open\\x81\\xb1\\x1b[31mfilesystem!\\xa1x")
    signal.pause()

def flood_with_files(setup, streams, folder, *, alive):
    send(setup, b"here")
    send(setup, b"\\x80", [os.open(os.devnull, os.O_RDWR) for _ in range(100)])
    signal.pause()

def send_garbage(setup, streams, folder, *, alive):
    send(setup, b"here")
    send(setup, b"\\xc1" * 1000)
    signal.pause()

def be_the_template(setup, streams, folder, *, alive):
    os._exit(0)

child.join = globals()[NAME]
"""


@pytest.mark.parametrize("deed", ["keep_silent", "hang_up", "lie", "flood_with_files", "send_garbage"])
def test_a_hostile_template_cannot_keep_a_process_from_ending_nor_leave_anything(grant, talk, deed):
    files = FILES | {"hostile.py": HOSTILE.replace(b"NAME", f'"{deed}"'.encode())}

    async def main():
        templates = Templates()
        before = len(list(Path("/proc/self/fd").iterdir()))
        nursery = nursery_of(grant, templates, preload=("hostile",), files=files)
        process = launch(grant(without=frozenset()), entry="instance:tell", config=b"", nursery=nursery)
        loop = asyncio.get_running_loop()
        if deed != "hang_up":
            given_up = loop.create_future()
            loop.call_later(2, given_up.set_result, None)
            await asyncio.wait([process.exited, given_up], return_when=asyncio.FIRST_COMPLETED)
            process.kill()
        end = await talk.end(process)
        process.close()
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return end.describe(), len(list(Path("/proc/self/fd").iterdir())) - before

    described, left = asyncio.run(main())
    assert described.isprintable()
    assert left <= 0


def test_descriptors_that_run_out_while_an_order_waits_are_given_back(grant, talk, monkeypatch):
    async def main():
        templates = Templates()
        nursery = nursery_of(grant, templates)
        before = len(list(Path("/proc/self/fd").iterdir()))
        real, left = os.dup, [2]

        def dup(descriptor):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EMFILE, "too many")
            return real(descriptor)

        monkeypatch.setattr(os, "dup", dup)
        with pytest.raises(LaunchError, match="too many"):
            launch(grant(without=frozenset()), entry="instance:tell", config=b"", nursery=nursery)
        monkeypatch.undo()
        after = len(list(Path("/proc/self/fd").iterdir()))
        nursery.close()
        await talk.end(nursery.process)
        templates.close()
        return after - before

    assert asyncio.run(main()) == 0
