"""Templates: what they make, what their sandboxes share and do not, and what is left when they end."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from byenatos_sandbox import Templates, launch
from byenatos_sandbox.cgroup import Group
from byenatos_sandbox.layers import missing
from byenatos_sandbox.template import Order
from byenatos_sandbox.templates import Template


def layouts(grant, talk, template):
    """What three sandboxes find of the process that they were made from."""

    async def main():
        templates = Templates(warm=3)
        templates.start()
        grants = grant(template=template, without=frozenset())
        processes = [launch(grants, entry="sandbox_entries:layout", config=b"", templates=templates) for _ in range(3)]
        found = [await talk.answer(process) for process in processes]
        for process in processes:
            process.kill()
            await talk.end(process)
            process.close()
        templates.close()
        return found

    return asyncio.run(main())


def test_sandboxes_of_one_shot_templates_share_neither_addresses_nor_hashes(grant, talk):
    found = layouts(grant, talk, "one-shot")
    assert len({one["libc"] for one in found}) == 3
    assert len({one["hash"] for one in found}) == 3
    assert len({one["random"] for one in found}) == 3


def test_sandboxes_of_a_shared_template_share_its_layout_and_not_its_random_numbers(grant, talk):
    found = layouts(grant, talk, "shared")
    assert len({one["libc"] for one in found}) == len({one["hash"] for one in found}) == 1
    assert len({one["random"] for one in found}) == 3


def test_a_sandbox_outlives_its_template(grant, talk):
    async def main():
        templates = Templates()
        fields = {"template": "shared", "without": frozenset()}
        process = launch(grant(**fields), entry="sandbox_entries:wait", config=b"", templates=templates)
        await talk.answer(process)
        templates.close()
        os.kill(process.pid, 0)
        assert process.stopped() is False
        process.kill()
        end = await talk.end(process)
        process.close()
        return end.describe()

    assert asyncio.run(main()) == "was killed by SIGKILL"


def test_a_shared_template_that_was_killed_is_replaced(grant, talk):
    async def main():
        templates = Templates()
        first = templates.shared()
        gone = os.pidfd_open(first.pid)
        os.kill(first.pid, signal.SIGKILL)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while first.alive:
                turned = loop.create_future()
                loop.add_reader(gone, lambda future=turned: future.done() or future.set_result(None))
                await turned
                loop.remove_reader(gone)
                await asyncio.sleep(0)
        os.close(gone)
        process = launch(
            grant(template="shared"), entry="sandbox_entries:leave_with_status", config=b"3", templates=templates
        )
        end = await talk.end(process)
        process.close()
        templates.close()
        return end.status

    assert asyncio.run(main()) == 3


def test_an_order_to_a_template_that_dies_is_answered_with_why(grant, talk):
    async def main():
        process = launch(grant(), entry="sandbox_entries:wait", config=b"")
        async with asyncio.timeout(60):
            while not (found := [one for one in children() if b"byenatos_sandbox.template" in one[1]]):
                await asyncio.sleep(0.001)  # it has no name of its own until it is executed
        [template] = found
        os.kill(template[0], signal.SIGKILL)
        end = await talk.end(process)
        process.close()
        return end

    end = asyncio.run(main())
    assert end.status == 70
    assert end.describe().startswith("could not be started: its template ended")


@pytest.mark.parametrize("end", ["it is killed", "it is closed"])
def test_what_a_template_made_is_known_although_it_ends_before_it_can_say_so(tmp_path, end):
    async def main():
        template = Template()
        answers = asyncio.Queue()
        gate, group = tmp_path / "gate", tmp_path / "group"
        os.mkfifo(gate)
        null = os.open(os.devnull, os.O_RDWR)
        # making the group waits at the gate, and putting the new process into it waits for good
        template.order(Order((), group=Group({str(group): {"../gate": "x"}})), [null] * 4, answers.put_nowait)
        async with asyncio.timeout(60):
            while not group.exists():
                await asyncio.sleep(0.001)
            os.mkfifo(group / "cgroup.procs")
            assert gate.read_text() == "x"
            while not (made := {pid for pid, _ in children()} - {template.pid} - before):
                await asyncio.sleep(0.001)
            os.kill(template.pid, signal.SIGKILL) if end == "it is killed" else template.close()
            answer = await answers.get()
        assert {answer.pid} == made
        assert answer.failure.startswith("its template")
        os.waitpid(answer.pid, 0)
        os.close(null)
        template.close()
        template.reap()

    before = {pid for pid, _ in children()}
    asyncio.run(main())
    assert {pid for pid, _ in children()} == before


def children() -> list[tuple[int, bytes]]:
    """The processes whose parent is this one, with their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid():
                    found.append((int(entry.name), (entry / "cmdline").read_bytes()))
            except OSError:
                continue
    return found


def test_an_order_that_the_system_refuses_is_answered_with_its_reason(grant, talk):
    async def main():
        template = Template()
        answers = asyncio.Queue()
        null = os.open(os.devnull, os.O_RDWR)
        template.order(Order(("user-namespace",) * 1, group=impossible_group()), [null] * 4, answers.put_nowait)
        answer = await asyncio.wait_for(answers.get(), 60)
        os.close(null)
        template.close()
        template.reap()
        if answer.pid:
            os.waitpid(answer.pid, 0)
        return answer

    assert "No such file or directory" in asyncio.run(main()).failure


def impossible_group():
    return Group({"/nowhere/at/all": {}})


@pytest.mark.skipif("mount-namespace" in missing(), reason="no namespaces on this machine")
def test_two_hundred_sandboxes_in_a_row_leave_nothing(grant, talk, tmp_path):
    async def main():
        templates = Templates()
        fields = {"template": "shared", "without": frozenset()}

        async def one():
            process = launch(grant(**fields), entry="sandbox_entries:wait", config=b"", templates=templates)
            await talk.answer(process)
            process.kill()
            await talk.end(process)
            process.close()

        await one()
        before = leftovers(tmp_path)
        for _ in range(200):
            await one()
        after = leftovers(tmp_path)
        templates.close()
        return before, after

    before, after = asyncio.run(main())
    assert before == after


def leftovers(folder: Path) -> dict[str, object]:
    """What a sandbox could leave: descriptors, processes, mounts, folders, shared memory, control groups."""
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "children": len(children()),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "folders": sorted(folder.iterdir()),
        "shared memory": sorted(path.name for path in Path("/dev/shm").iterdir() if "byenatos" in path.name),
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/byenatos-{os.getpid()}-*")],
    }
