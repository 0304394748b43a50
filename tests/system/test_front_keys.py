"""Keys in a running kernel: who is let in, to what, and what a change of access.toml does."""

import asyncio
import contextlib
import io
import json
import signal
from contextlib import asynccontextmanager

import httpx
import pytest
from kernel_process import CEILING_S, KernelProcess, until, until_ready, write_config

from byenatos_kernel.cli import main
from byenatos_sdk.home import Home

ROOT = "/byenatos/v1"


def make_key(home, name, *arguments):
    """What ``byenatos keys make`` prints for a program."""
    said, handler = io.StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(said):
            assert main(["--home", str(home.path), "keys", "make", name, *arguments, "--json"]) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    return json.loads(said.getvalue())


def write_access(home, *made):
    home.policies.mkdir(parents=True, exist_ok=True)
    tables = "\n".join(one["table"] for one in made)
    home.access.write_text(f"[plugins]\nunsigned = true\n\n{tables}\n")


class Keyed:
    """A kernel that knows three keys, and the keys."""

    def __init__(self, kernel, **keys):
        self.kernel = kernel
        self.keys = keys

    @asynccontextmanager
    async def speaking(self, who=None):
        """A client of the front with the key of ``who``."""
        headers = {"authorization": f"Bearer {self.keys[who]}"} if who else {}
        async with self.kernel.client() as client:
            await until_ready(client, "default", "coder")
            status = await until(client, lambda status: status.fronts[0].ready == 1)
        port = status.fronts[0].address.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=CEILING_S, trust_env=False) as http:
            yield http


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """The front listens where others can reach it, which it may as there are keys."""
    home = Home(tmp_path_factory.mktemp("keys") / "home")
    made = {
        "boss": make_key(home, "boss", "--role", "admin"),
        "editor": make_key(home, "editor", "--slot", "coder"),
        "other": make_key(home, "other"),
        "slow": make_key(home, "slow", "--per-minute", "2"),
    }
    write_access(home, *made.values())
    write_config(home, models={"second": {}}, slots={"coder": "second"}, fronts={"http": {"listen": "0.0.0.0:0"}})
    kernel = KernelProcess(home)
    yield Keyed(kernel, **{name: one["key"] for name, one in made.items()})
    kernel.clean_up()
    for one in made.values():
        assert one["key"] not in kernel.log


def question(model="default", text="Say it again"):
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def test_without_a_key_only_probes_and_the_document_are_answered(keyed):
    async with keyed.speaking() as http:
        assert (await http.post("/v1/chat/completions", json=question())).status_code == 401
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/nowhere")).status_code == 401
        refused = await http.get(f"{ROOT}/slots")
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "unauthenticated"
        for path in ("/healthz", "/readyz", "/health", f"{ROOT}/openapi.json"):
            assert (await http.get(path)).status_code == 200


async def test_a_user_is_answered_and_may_not_manage(keyed):
    async with keyed.speaking("other") as http:
        answer = await http.post("/v1/chat/completions", json=question())
        assert answer.json()["choices"][0]["message"]["content"] == "Say it again"
        document = (await http.get(f"{ROOT}/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method in methods:
                if path != f"{ROOT}/openapi.json":
                    refused = await http.request(method, path, json={})
                    assert refused.status_code == 403, (method, path)
                    assert refused.json()["error"]["code"] == "permission_denied"
        assert (await http.get("/metrics")).status_code == 200
        loading = await http.post("/api/generate", json={"model": "echo-two"})
        assert loading.status_code == 403


async def test_an_admin_may_do_everything(keyed):
    async with keyed.speaking("boss") as http:
        assert (await http.get(f"{ROOT}/status")).status_code == 200
        assert (await http.post(f"{ROOT}/slots/default/swap", json={"model": "echo-two"})).status_code == 200
        assert (await http.post(f"{ROOT}/slots/default/swap", json={"model": "echo"})).status_code == 200


SHAPES = {
    "chat": ("/v1/chat/completions", question()),
    "completion": ("/v1/completions", {"model": "default", "prompt": "x"}),
    "anthropic": ("/v1/messages", question() | {"max_tokens": 9}),
    "anthropic count": ("/v1/messages/count_tokens", question()),
    "embeddings": ("/v1/embeddings", {"model": "default", "input": "x"}),
    "gemini": ("/v1beta/models/default:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}),
    "gemini count": ("/v1beta/models/default:countTokens", {"contents": [{"parts": [{"text": "x"}]}]}),
    "ollama": ("/api/chat", question()),
    "ollama load": ("/api/generate", {"model": "default"}),
    "ollama embed": ("/api/embed", {"model": "default", "input": "x"}),
    "hugging face": ("/generate", {"inputs": "x"}),
    "hugging face root": ("/", {"inputs": "x"}),
    "hugging face embed": ("/embed", {"inputs": "x"}),
    "llama.cpp": ("/completion", {"prompt": "x"}),
    "llama.cpp embed": ("/embedding", {"content": "x"}),
    "llama.cpp count": ("/v1/chat/completions/input_tokens", question()),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_api_lets_a_client_name_a_slot_that_is_not_its_own(keyed, shape):
    path, body = SHAPES[shape]
    async with keyed.speaking("editor") as http:
        refused = await http.post(path, json=body)
        assert refused.status_code == 403, refused.text
        named = await http.post(path, json=body, headers={"x-byenatos-slot": "coder"})
        if "/api/" not in path or "model" not in body:  # there a name is looked up before it can be replaced
            assert named.status_code != 403, named.text
        hidden = await http.post("/v1/chat/completions", json=question("coder"), headers={"x-byenatos-slot": "default"})
        assert hidden.status_code == 403


async def test_a_client_sees_its_own_slots_only(keyed):
    async with keyed.speaking("editor") as http:
        assert [model["id"] for model in (await http.get("/v1/models")).json()["data"]] == ["coder"]
        assert (await http.get("/v1/models/coder")).status_code == 200
        assert (await http.get("/v1/models/default")).status_code == 404
        assert [model["name"] for model in (await http.get("/api/tags")).json()["models"]] == ["coder"]
        assert (await http.get("/info")).json()["model_id"] == "coder"
        assert [slot["model"] for slot in (await http.get("/slots")).json()] == ["coder"]


async def test_users_do_not_share_sessions_and_an_admin_sees_all(keyed):
    talk = {"x-byenatos-session": "talk"}
    async with keyed.speaking("editor") as http:
        assert (await http.post("/v1/chat/completions", json=question("coder", "A secret"), headers=talk)).is_success
    async with keyed.speaking("other") as http:
        assert (await http.post("/v1/chat/completions", json=question("coder", "Hello"), headers=talk)).is_success
    async with keyed.speaking("boss") as http:
        turns = {
            name: len((await http.get(f"{ROOT}/sessions/{name}")).json()["turns"])
            for name in ("editor/talk", "other/talk")
        }
        assert turns == {"editor/talk": 2, "other/talk": 2}
        assert (await http.get(f"{ROOT}/sessions/talk")).status_code == 404


async def test_a_key_that_is_used_too_often_is_told_how_long_to_wait(keyed):
    async with keyed.speaking("slow") as http:
        answers = [await http.get("/v1/models") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60


async def test_a_limit_holds_over_all_workers_together(start_kernel, home):
    made = make_key(home, "slow", "--per-minute", "5")
    write_access(home, made)
    kernel = start_kernel(fronts={"http": {"listen": "127.0.0.1:0", "workers": 2}})
    headers = {"authorization": f"Bearer {made['key']}"}
    async with kernel.client() as client:
        status = await until(client, lambda status: status.fronts[0].ready == 2)
    answers = []
    for _ in range(30):  # each by a connection of its own, so that no worker has them all
        async with httpx.AsyncClient(timeout=CEILING_S, trust_env=False) as http:
            answers.append(await http.get(f"http://{status.fronts[0].address}/v1/models", headers=headers))
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 25
    assert "retry-after" in answers[-1].headers


async def test_where_others_can_listen_in_it_is_said(keyed):
    async with keyed.kernel.client() as client:
        assert any("without TLS" in warning for warning in (await client.status()).warnings)


async def test_keys_come_and_go_while_the_kernel_runs_and_so_does_an_address_that_needs_them(start_kernel, home):
    made = make_key(home, "editor")
    kernel = start_kernel(fronts={"http": {"listen": "0.0.0.0:0"}})
    headers = {"x-api-key": made["key"]}
    async with kernel.client() as client:
        (front,) = (await until(client, lambda status: status.fronts[0].problem)).fronts
        assert "byenatos keys make" in front.problem
        assert front.ready == 0

        write_access(home, made)
        status = await until(client, lambda status: status.fronts[0].ready == 1)
        url = f"http://127.0.0.1:{status.fronts[0].address.rpartition(':')[2]}"
        async with httpx.AsyncClient(base_url=url, timeout=CEILING_S, trust_env=False) as http:
            assert (await http.get("/v1/models")).status_code == 401
            assert (await http.get("/v1/models", headers=headers)).status_code == 200

            write_access(home, make_key(home, "another"))
            async with asyncio.timeout(CEILING_S):
                while (await http.get("/v1/models", headers=headers)).status_code == 200:
                    await client.status()
            assert (await http.get("/v1/models", headers=headers)).status_code == 401

        write_access(home)
        (front,) = (await until(client, lambda status: status.fronts[0].problem)).fronts
        await until(client, lambda status: not any(one.driver == "http" for one in status.instances))
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)
