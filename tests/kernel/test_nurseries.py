"""Templates that models are loaded in: what is forked from them, which are kept, what becomes of a bad one."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from real_link import PRELOADING, RealLink, toy

from byenatos_kernel.access import TemplateRules
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.nurseries import Nurseries
from byenatos_sandbox import Templates
from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.messages import InferenceRequest, user

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}")

HELLO = InferenceRequest((user("hello"),))


@pytest.fixture
def toys(tmp_path):
    """Nurseries with ``rules``, and a way to start a process of the toy driver that they are for."""

    @asynccontextmanager
    async def make(code=PRELOADING, **rules):
        nurseries = Nurseries(Templates(("byenatos_sdk.runtime",), warm=0), TemplateRules(**rules))
        plugin = toy(tmp_path, code)
        made, templates = [], set()

        async def start(file=None, **fields):
            made.append(RealLink(plugin, nurseries, tmp_path, file, **fields))
            try:
                return await made[-1].start()
            finally:
                templates.update(nursery.process for nursery in nurseries._kept)

        try:
            yield nurseries, start
        finally:
            for one in made:
                await one.end()
            nurseries.close()
            for template in templates:
                await template.exited

    return make


def template_of(link) -> int:
    """The process id of the template that a process was forked from."""
    return link._nursery.process.pid


def gone(pid: int) -> asyncio.Future[None]:
    """Resolves when the process that has this number now is gone."""
    loop = asyncio.get_running_loop()
    descriptor, ended = os.pidfd_open(pid), loop.create_future()

    def end():
        loop.remove_reader(descriptor)
        os.close(descriptor)
        ended.set_result(None)

    loop.add_reader(descriptor, end)
    return ended


async def test_processes_of_a_model_share_what_was_loaded_once_and_run_at_once(toys):
    async with toys() as (_, start):
        one, two = await start(), await start()
        (first, own), (second, other) = [(await link.ask(HELLO)).split() for link in (one, two)]
        assert first == second != "None"
        assert own != other
        assert "1" not in {own, other}
        assert one.process.open == two.process.open == {}


async def test_another_order_is_another_template(toys):
    async with toys() as (_, start):
        one = await start()
        two = await start(name="toy/another")
        assert (await one.ask(HELLO)).split()[0] != (await two.ask(HELLO)).split()[0]


async def test_a_killed_process_is_replaced_by_a_fork_of_the_same_template(toys):
    async with toys() as (_, start):
        one = await start()
        loaded = (await one.ask(HELLO)).split()[0]
        await one.end()
        assert (await (await start()).ask(HELLO)).split()[0] == loaded


async def test_with_a_template_its_processes_end_and_the_next_one_gets_another(toys):
    async with toys() as (_, start):
        one, two = await start(), await start()
        loaded = (await one.ask(HELLO)).split()[0]
        os.kill(template_of(one), signal.SIGKILL)
        await asyncio.gather(one.process.exited, two.process.exited)
        assert (await (await start()).ask(HELLO)).split()[0] not in {loaded, "None"}


async def test_idle_templates_are_ended_for_their_memory_and_those_in_use_are_not(toys):
    async with toys() as (nurseries, start):
        one, two = await start(), await start(name="toy/another")
        used, idle = template_of(one), template_of(two)
        assert not await nurseries.end_idle()
        await two.end()
        assert nurseries.idle_bytes > 0
        ended = gone(idle)
        assert await nurseries.end_idle()
        await ended
        assert nurseries.idle_bytes == 0
        assert template_of(one) == used
        assert (await (await start()).ask(HELLO)).split()[0] == (await one.ask(HELLO)).split()[0]


async def test_a_fork_that_is_kept_ahead_may_die(toys):
    async with toys() as (_, start):
        one = await start()
        own = one.process.pid
        children = Path(f"/proc/{template_of(one)}/task/{template_of(one)}/children")
        ahead = []
        while not ahead:
            await asyncio.sleep(0.01)
            ahead = [int(pid) for pid in children.read_text().split() if int(pid) != own]
        ended = gone(ahead[0])
        os.kill(ahead[0], signal.SIGKILL)
        await ended
        two = await start()
        assert (await one.ask(HELLO)).split()[0] == (await two.ask(HELLO)).split()[0]


async def test_what_nobody_uses_is_kept_until_its_model_is_unloaded(toys):
    async with toys() as (nurseries, start):
        one = await start()
        template, loaded = template_of(one), (await one.ask(HELLO)).split()[0]
        await one.end()
        two = await start()
        assert (await two.ask(HELLO)).split()[0] == loaded
        nurseries.forget("toy/model")
        assert (await two.ask(HELLO)).split()[0] == loaded  # it is in use
        ended = gone(template)
        await two.end()
        await ended


@pytest.mark.parametrize("rules", [{"idle_s": 0}, {"idle_mib": 0}])
async def test_what_nobody_uses_goes_when_the_rules_say_so(toys, rules):
    async with toys(**rules) as (nurseries, start):
        one = await start()
        ended = gone(template_of(one))
        await one.end()
        await ended
        assert nurseries.idle_bytes == 0


async def test_the_longest_idle_goes_first_when_they_hold_too_much_together(toys):
    hungry = PRELOADING.replace("return os.urandom(8).hex()", "cls.held = os.urandom(40 << 20); return 'held'")
    async with toys(hungry, idle_mib=130) as (_, start):
        links = [await start(name=f"toy/{number}") for number in range(3)]
        templates = [template_of(link) for link in links]
        ended = gone(templates[1])
        for number in (1, 2, 0):
            await links[number].end()
        await ended
        assert all(Path(f"/proc/{pid}").exists() for pid in (templates[0], templates[2]))


async def test_no_model_is_loaded_ahead_where_the_rules_forbid_it(toys):
    async with toys(models=False) as (_, start):
        one = await start()
        assert not one.preloaded
        assert await one.ask(HELLO) == "None 1"


THREADED = PRELOADING.replace("return os", "threading.Thread(target=threading.Event().wait, daemon=True).start()")
THREADED = f"import threading\n{THREADED}"
DYING = PRELOADING.replace("return os.urandom(8).hex()", "os._exit(3)")


@pytest.mark.parametrize(("code", "words"), [(THREADED, "it has 2 threads"), (DYING, "exited with status 3")])
async def test_after_a_template_that_failed_the_next_process_loads_the_model_itself(toys, code, words):
    async with toys(code) as (_, start):
        with pytest.raises(Exception, match=words):
            await start()
        two = await start()
        assert await two.ask(HELLO) == "None 1"


async def test_what_a_preload_raises_is_printed_and_the_process_loads_the_model_itself(toys):
    async with toys(PRELOADING.replace("return os", "raise ValueError('no'); return os")) as (_, start):
        one = await start()
        assert (await one.ask(HELLO)).split()[0] == "None"
        assert any("cannot preload 'model'" in line for line in one._nursery.process.output())


async def test_a_model_file_has_no_name_in_the_template_nor_in_its_forks(toys, tmp_path):
    code = """
from pathlib import Path
from byenatos_sdk.driver import Driver
from byenatos_sdk.files import open_file

def look(path):
    with open_file(path) as file:
        content = file.read().decode()
    return content, path.exists() or Path(path.parent).exists()

class Toy(Driver):
    @classmethod
    def preload(cls, model):
        return look(model.path)
    async def start(self, model):
        self.model = model
    async def infer(self, request):
        yield repr((self.model.preloaded, look(self.model.path)))
"""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one").write_text("weights")
    file = ModelFile(tmp_path / "models" / "one")
    (tmp_path / "models" / "other").write_text("another's")
    (tmp_path / "models" / "other").replace(tmp_path / "models" / "one")  # what the name leads to now is another file
    async with toys(code) as (_, start):
        one = await start(file)
        two = await start(file)
        told = [await link.ask(HELLO) for link in (one, two)]
    assert told == ["(('weights', False), ('weights', False))"] * 2
