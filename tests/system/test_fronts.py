"""Fronts in a running kernel: the real plugin, in its sandbox, over real HTTP."""

import asyncio
import json
import os
import re
import signal
import textwrap
from contextlib import asynccontextmanager

import httpx
from kernel_process import CEILING_S, until, until_ready

import byenatos_sdk.front

MODELS = {
    "slow": {"tokens": 200, "rate": 200},
    "endless": {"tokens": -1, "rate": 100},
    "failing": {"tokens": 9, "rate": 50, "fault": "raise", "fault_after": 3},
}


@asynccontextmanager
async def serving(start_kernel, **front):
    """A kernel with the front ``http``: itself, a client of its own, and one that speaks HTTP."""
    kernel = start_kernel(
        models=MODELS, slots={name: name for name in MODELS}, fronts={"http": {"listen": "127.0.0.1:0"} | front}
    )
    async with kernel.client() as client:
        await until_ready(client, "default", *MODELS)
        status = await until(client, lambda status: status.fronts[0].ready == front.get("workers", 1))
        url = f"http://{status.fronts[0].address}"
        async with httpx.AsyncClient(base_url=url, timeout=CEILING_S, trust_env=False) as http:
            yield kernel, client, http


def question(model="default", text="Say it again", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}]} | more


async def test_an_application_is_answered_over_http(start_kernel):
    async with serving(start_kernel) as (_, _, http):
        answer = (await http.post("/v1/chat/completions", json=question())).json()
        assert answer["choices"][0]["message"]["content"] == "Say it again"
        listed = (await http.get("/v1/models")).json()
        assert "default" in [model["id"] for model in listed["data"]]


async def test_a_worker_that_is_killed_is_replaced_and_no_connection_is_refused(start_kernel):
    async with serving(start_kernel) as (_, client, http):

        def workers(status):
            return {one.pid for one in status.instances if one.driver == "http" and one.state.value == "ready"}

        (before,) = workers(await client.status())
        os.kill(before, signal.SIGKILL)
        async with httpx.AsyncClient(base_url=http.base_url, timeout=CEILING_S, trust_env=False) as other:
            answer = await other.post("/v1/chat/completions", json=question())  # waits until there is a worker again
        assert answer.status_code == 200
        assert before not in workers(await client.status())


async def test_a_client_that_leaves_stops_what_runs_for_it(start_kernel):
    async with serving(start_kernel) as (_, client, http):
        async with http.stream("POST", "/v1/chat/completions", json=question("endless", stream=True)) as answer:
            lines = answer.aiter_lines()  # dropping them would be leaving
            await anext(lines)
            assert (await client.status()).streams == 1

        await until(client, lambda status: status.streams == 0)


async def test_a_stream_that_breaks_off_ends_as_its_clients_see_and_never_as_a_whole_answer(start_kernel):
    async with serving(start_kernel) as (_, _, http):
        async with http.stream("POST", "/v1/chat/completions", json=question("failing", stream=True)) as answer:
            lines = [line async for line in answer.aiter_lines() if line]
        assert sum('"content":"' in line for line in lines) > 1
        assert "error" in json.loads(lines[-1].removeprefix("data: "))
        assert "data: [DONE]" not in lines
        broken = await http.post("/v1/chat/completions", json=question("failing"))
        assert broken.status_code == 500


async def test_workers_share_one_port_and_streams_end_before_a_worker_leaves(start_kernel):
    async with serving(start_kernel, workers=2) as (kernel, _, http):
        async with http.stream("POST", "/v1/chat/completions", json=question("slow", stream=True)) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            kernel.process.send_signal(signal.SIGTERM)
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"


async def test_an_address_that_is_taken_is_reported_and_everything_else_works(start_kernel):
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    kernel = start_kernel(fronts={"http": {"listen": f"127.0.0.1:{port}"}})
    async with taken, kernel.client() as client:
        (front,) = (await client.status()).fronts
        assert front.ready == 0
        assert "Address already in use" in front.problem
        assert "fronts.http.listen" in front.problem
        assert (await client.infer("Hello")).text == "Hello"


async def test_an_address_that_others_can_reach_is_refused(start_kernel):
    kernel = start_kernel(fronts={"http": {"listen": "0.0.0.0:0"}})
    async with kernel.client() as client:
        (front,) = (await client.status()).fronts
        assert "expected an address of this machine only" in front.problem


EXAMPLE = re.search(r"    class Lines.*writer\.close\(\)\n", byenatos_sdk.front.__doc__, re.DOTALL)
"""As authors read it."""
LINES = f"import asyncio\nfrom byenatos_sdk.front import Front\n\n{textwrap.dedent(EXAMPLE[0])}"
MANIFEST = '[plugin]\nid = "lines"\nversion = "1"\nkind = "front"\nentry = "front:Lines"\n'


def write_front(home, code):
    folder = home.path / "lines"
    folder.mkdir(parents=True)
    (folder / "front.py").write_text(code)
    (folder / "plugin.toml").write_text(MANIFEST)
    home.plugins.mkdir(exist_ok=True)
    folder.rename(home.plugins / "lines")


async def test_a_third_partys_front_serves_by_asyncios_own_server(start_kernel, home):
    write_front(home, LINES)
    kernel = start_kernel(fronts={"lines": {"listen": "127.0.0.1:0"}})
    async with kernel.client() as client:
        await until_ready(client)
        (front,) = (await until(client, lambda status: status.fronts[0].ready or status.fronts[0].problem)).fronts
        assert not front.problem
        host, _, port = front.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"one\ntwo\n")
        assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]
        writer.close()


async def test_a_front_that_cannot_start_says_why_at_once_and_starts_when_its_folder_is_mended(start_kernel, home):
    write_front(home, LINES.replace("self.kernel = kernel", "raise RuntimeError('no lines today')"))
    kernel = start_kernel(fronts={"lines": {"listen": "127.0.0.1:0"}})
    async with kernel.client() as client:
        (front,) = (await until(client, lambda status: status.fronts[0].problem)).fronts
        assert "could not start: front 'lines' cannot start: RuntimeError: no lines today" in front.problem
        (home.plugins / "lines" / "front.py").write_text(LINES)
        await until(client, lambda status: status.fronts[0].ready == 1)
