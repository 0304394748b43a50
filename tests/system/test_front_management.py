"""The kernel's own API over HTTP, its document, its metrics, and what Hugging Face's and llama.cpp's servers have."""

import asyncio
import itertools
import json
import re
from contextlib import asynccontextmanager

import fastjsonschema
import httpx
import pytest
from huggingface_hub import InferenceClient
from kernel_process import CEILING_S, KernelProcess, counting, slot_of, until, until_ready, write_config
from prometheus_client.parser import text_string_to_metric_families

from byenatos_sdk.formats import huggingface_tgi, llamacpp_server
from byenatos_sdk.formats.wire import WireResponse
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import Unsupported

ROOT = "/byenatos/v1"
MODELS = {"second": {}, "spare": {}, "loaded": {}}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel with two slots and one worker; tests leave ``default`` at ``echo``."""
    home = Home(tmp_path_factory.mktemp("front") / "home")
    write_config(home, models=MODELS, slots={"other": "second"}, fronts={"http": {"listen": "127.0.0.1:0"}})
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


@asynccontextmanager
async def speaking(kernel):
    """A client of the front."""
    async with kernel.client() as client:
        await until_ready(client, "default", "other")
        status = await until(client, lambda status: status.fronts[0].ready == 1)
    url = f"http://{status.fronts[0].address}"
    async with httpx.AsyncClient(base_url=url, timeout=CEILING_S, trust_env=False) as http:
        yield http


async def events_of(answer, most=1000):
    """The events of a stream as pairs of name and data."""
    found, name = [], ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
            if len(found) == most:
                break
    return found


# ---- the document ------------------------------------------------------------------------------------------------


class Described:
    """The document, and what it says of an answer."""

    def __init__(self, document):
        self.document = document
        self.seen = set()

    def check(self, method, path, response):
        """Fail unless the document has this answer: its status, its type and its shape."""
        operation = self.document["paths"][path][method.lower()]
        assert str(response.status_code) in operation["responses"], (method, path, response.status_code, response.text)
        kind = response.headers["content-type"]
        schema = operation["responses"][str(response.status_code)]["content"][kind]["schema"]
        self.conforms(schema, response.json())
        self.seen.add((method, path, response.status_code))

    def conforms(self, schema, value):
        """Fail unless a value is as a schema of the document says."""
        whole = {"$schema": "http://json-schema.org/draft-07/schema", "components": self.document["components"]}
        fastjsonschema.compile({**whole, "allOf": [schema]})(value)


async def test_every_path_of_the_document_answers_as_it_says(kernel):
    async with speaking(kernel) as http:
        answer = await http.get(f"{ROOT}/openapi.json")
        described = Described(answer.json())
        assert described.document["openapi"] == "3.1.0"
        asked = [
            ("GET", "/health", None), ("GET", "/status", None), ("GET", "/models", None), ("GET", "/slots", None),
            ("GET", "/models/{model}", "echo"), ("GET", "/models/{model}", "nothing/at all"),
            ("GET", "/slots/{slot}", "default"), ("GET", "/slots/{slot}", "nothing"),
            ("GET", "/swaps", None), ("GET", "/traffic", None), ("GET", "/sessions", None), ("GET", "/plugins", None),
            ("GET", "/triggers", None), ("GET", "/usage", None),
            ("GET", "/sessions/{session}", "a/talk"), ("GET", "/sessions/{session}", "nothing"),
            ("DELETE", "/sessions/{session}", "a/talk"), ("DELETE", "/sessions/{session}", "a/talk"),
            ("GET", "/openapi.json", None),
        ]  # fmt: skip
        bodies = [
            ("/models/load", "", {"model": "loaded"}), ("/models/load", "", {"model": "nothing"}),
            ("/models/load", "", {"model": 5}), ("/models/load", "", None),
            ("/models/unload", "", {"model": "loaded"}), ("/models/unload", "", {"model": "nothing"}),
            ("/models/unload", "", {"model": "echo"}), ("/models/unload", "", []),
            ("/slots/{slot}/swap", "default", {"model": "spare", "until": "retired"}),
            ("/slots/{slot}/swap", "default", {"model": "echo", "strategy": "immediate"}),
            ("/slots/{slot}/swap", "default", {"model": "echo", "force": True}),
            ("/slots/{slot}/swap", "default", {"model": "echo", "force": "yes"}),
            ("/slots/{slot}/swap", "default", {"model": "nothing"}),
            ("/slots/{slot}/swap", "nothing", {"model": "echo"}),
            ("/slots/{slot}/swap", "default", {"model": "echo", "strategy": "magic"}),
            ("/slots/{slot}/swap", "default", {"model": "echo", "unknown": 1}),
            ("/slots/{slot}/swap", "default", {"model": "spare", "keep_old_s": 600.0}),
            ("/slots/{slot}/swap/back", "default", {}), ("/slots/{slot}/swap/back", "default", {}),
            ("/slots/{slot}/swap/back", "nothing", {}), ("/slots/{slot}/swap/cancel", "default", {}),
            ("/models/preload", "", {"model": "spare"}), ("/models/preload", "", {"model": "nothing"}),
            ("/models/preload", "", {"name": "spare"}), ("/models/reload", "", {"model": "second"}),
            ("/models/reload", "", {"model": "loaded"}), ("/models/reload", "", {"strategy": "magic"}),
            ("/models/refresh", "", {}), ("/models/refresh", "", {"driver": "nothing"}),
            ("/models/refresh", "", {"driver": 5}),
            ("/sessions/{session}/move", "a/talk", {"model": "second"}),
            ("/sessions/{session}/move", "a/talk", {"model": "second"}), ("/sessions/{session}/move", "a/talk", {}),
            ("/sessions/{session}/move", "nothing", {"model": "second"}),
            ("/plugins/{plugin}/upgrade", "echo", {"strategy": "immediate"}),
            ("/plugins/{plugin}/upgrade", "nothing", {}), ("/plugins/{plugin}/upgrade", "echo", {"strategy": "magic"}),
            ("/plugins/{plugin}/rollback", "echo", {}), ("/plugins/{plugin}/rollback", "echo", []),
        ]  # fmt: skip
        talk = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
        assert (await http.post("/v1/chat/completions", json=talk, headers={"x-byenatos-session": "a/talk"})).is_success
        for path, name, body in bodies:
            target = ROOT + re.sub(r"{\w+}", name, path)
            content = b"{" if body is None else json.dumps(body).encode()
            described.check("POST", ROOT + path, await http.post(target, content=content))
        for method, path, name in asked:
            target = ROOT + re.sub(r"{\w+}", name or "", path)
            described.check(method, ROOT + path, await http.request(method, target))
        operations = {
            (method.upper(), path) for path, methods in described.document["paths"].items() for method in methods
        }
        assert operations - {one[:2] for one in described.seen} == {("GET", f"{ROOT}/events")}
        done = {one[:2] for one in described.seen if one[2] == 200}
        never = {("POST", f"{ROOT}/slots/{{slot}}/swap/cancel"), ("POST", f"{ROOT}/plugins/{{plugin}}/rollback")}
        assert {one[:2] for one in described.seen} - done == never  # there was nothing to give up, or to return to
        assert {status for *_, status in described.seen} == {200, 400, 404}


async def test_a_path_that_is_used_otherwise_is_refused_in_the_words_of_this_api(kernel):
    async with speaking(kernel) as http:
        answer = await http.post(f"{ROOT}/slots")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET"
        assert answer.json()["error"]["code"] == "invalid_request"
        assert (await http.get(f"{ROOT}/nothing")).json()["error"]["code"] == "not_found"


# ---- swaps and events --------------------------------------------------------------------------------------------


async def test_a_swap_is_followed_step_by_step_and_so_are_the_kernel_s_events(kernel):
    async with speaking(kernel) as http:
        described = Described((await http.get(f"{ROOT}/openapi.json")).json())
        paths = described.document["paths"]
        order = {"model": "spare", "until": "retired"}
        async with http.stream("GET", f"{ROOT}/events") as happening:
            assert happening.headers["content-type"] == "text/event-stream"
            lines = happening.aiter_lines()
            await anext(lines)  # the subscription has begun
            swap = http.stream(
                "POST", f"{ROOT}/slots/default/swap", json=order, headers={"accept": "text/event-stream"}
            )
            async with swap as answer:
                steps = await events_of(answer)
            assert {name for name, _ in steps} == {"swap"}
            assert [step["state"] for _, step in steps][-3:] == ["switched", "draining", "retired"]
            schema = paths[f"{ROOT}/slots/{{slot}}/swap"]["post"]["responses"]["200"]["content"]["text/event-stream"]
            for _, step in steps:
                described.conforms(schema["x-event-data"], step)
            schema = paths[f"{ROOT}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
            name, seen = "", []
            while "retired" not in seen:
                line = await anext(lines)
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    value = json.loads(line.removeprefix("data: "))
                    described.conforms(schema["x-event-data"], value)
                    assert value["type"] == name
                    seen.append(value["swap"]["state"] if name == "swap_advanced" else name)
        assert "instance_changed" in seen
        shown = (await http.get(f"{ROOT}/slots/default")).json()
        assert shown["model"] == "spare"
        assert steps[-1][1]["id"] == max(swap["id"] for swap in (await http.get(f"{ROOT}/swaps")).json())
        assert (await http.post(f"{ROOT}/slots/default/swap", json={"model": "echo"})).is_success


async def test_a_swap_that_fails_on_its_way_says_so_as_its_last_event(kernel):
    async with speaking(kernel) as http:
        swap = http.stream(
            "POST", f"{ROOT}/slots/default/swap", json={"model": "nothing"}, headers={"accept": "text/event-stream"}
        )
        async with swap as answer:
            steps = await events_of(answer)
        assert steps[-1][0] == "error"
        assert steps[-1][1]["error"]["code"] == "not_found"
        assert (await http.get(f"{ROOT}/slots/default")).json()["state"] == "ready"


async def test_a_client_that_leaves_does_not_stop_a_swap_and_listens_no_more(kernel):
    async with speaking(kernel) as http, kernel.client() as client:
        swap = http.stream(
            "POST", f"{ROOT}/slots/default/swap", json={"model": "spare"}, headers={"accept": "text/event-stream"}
        )
        async with swap as answer:
            await events_of(answer, most=1)
        await until(client, lambda status: slot_of(status).model == "spare" and slot_of(status).swap is None)
        assert (await client.swap("default", "echo", until="retired")).state.value == "retired"


async def test_a_slot_says_what_it_can_go_back_to_and_goes_there(kernel):
    async with speaking(kernel) as http:
        assert "kept" not in (await http.get(f"{ROOT}/slots/default")).json()
        await http.post(f"{ROOT}/slots/default/swap", json={"model": "spare", "keep_old_s": 600})
        shown = (await http.get(f"{ROOT}/slots/default")).json()
        assert (shown["model"], shown["kept"]) == ("spare", "echo")
        back = (await http.post(f"{ROOT}/slots/default/swap/back")).json()
        assert (back["state"], back["detail"]) == ("rolled_back", "as asked for")
        shown = (await http.get(f"{ROOT}/slots/default")).json()
        assert (shown["model"], "kept" in shown) == ("echo", False)
        refused = (await http.post(f"{ROOT}/slots/default/swap/back")).json()
        assert refused["error"]["code"] == "invalid_request"


async def test_a_swap_that_waits_for_its_slot_to_be_idle_is_given_up(kernel):
    async with speaking(kernel) as http, kernel.client() as client:
        async with client.stream("x", extra=counting(-1, 50)) as answer:
            await anext(aiter(answer))
            order = {"model": "spare", "strategy": "background"}
            swap = http.stream(
                "POST", f"{ROOT}/slots/default/swap", json=order, headers={"accept": "text/event-stream"}
            )
            async with swap as waiting:
                lines = waiting.aiter_lines()
                while '"prepared"' not in await anext(lines):
                    pass
                given_up = (await http.post(f"{ROOT}/slots/default/swap/cancel")).json()
                assert given_up["state"] == "failed"
                rest = [line async for line in lines]
            assert any('"given up by the operator"' in line for line in rest)
        assert (await http.get(f"{ROOT}/slots/default")).json()["model"] == "echo"


async def test_a_conversation_that_was_moved_is_answered_elsewhere_than_its_slot(kernel):
    async with speaking(kernel) as http:
        talk = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
        named = {"x-byenatos-session": "moved/talk"}
        assert (await http.post("/v1/chat/completions", json=talk, headers=named)).is_success
        moved = (await http.post(f"{ROOT}/sessions/moved/talk/move", json={"model": "second"})).json()
        assert (moved["session"], moved["level"]) == ("moved/talk", "text")
        assert (await http.get(f"{ROOT}/sessions/moved/talk")).json()["info"]["home"] == "second"
        assert (await http.get(f"{ROOT}/slots/default")).json()["elsewhere"] == 1
        await http.post("/v1/chat/completions", json=talk, headers=named)
        turns = (await http.get(f"{ROOT}/sessions/moved/talk")).json()["turns"]
        assert [turn["model"] for turn in turns if turn["message"]["role"] == "assistant"] == ["echo", "second"]
        await http.delete(f"{ROOT}/sessions/moved/talk")
        assert "elsewhere" not in (await http.get(f"{ROOT}/slots/default")).json()


# ---- health and metrics ------------------------------------------------------------------------------------------


def series(text):
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_what_was_answered(kernel):
    def value(found, name, **labels):
        return found.get((name, frozenset(labels.items())), 0.0)

    async with speaking(kernel) as http:
        before = series((await http.get("/metrics")).text)
        asked = {"model": "default", "messages": [{"role": "user", "content": "one two"}]}
        await http.post("/v1/chat/completions", json=asked)
        await http.post("/v1/chat/completions", json={})
        for path in ("/one", "/two"):
            await http.get(path)
        answer = await http.get("/metrics")
        after = series(answer.text)

        def grown(name, **labels):
            return value(after, name, **labels) - value(before, name, **labels)

        chat = {"worker": "1", "route": "/v1/chat/completions"}
        assert answer.headers["content-type"].startswith("text/plain")
        assert grown("byenatos_kernel_requests_total") == 1
        assert grown("byenatos_http_answers_total", **chat, method="POST", status="200") == 1
        assert grown("byenatos_http_answers_total", **chat, method="POST", status="400") == 1
        assert grown("byenatos_http_answers_total", worker="1", route="none", method="none", status="404") == 2
        assert grown("byenatos_http_answer_seconds_count", **chat) == 2
        assert grown("byenatos_http_answer_seconds_bucket", **chat, le="+Inf") == 2
        assert grown("byenatos_http_answer_seconds_sum", **chat) > 0
        assert value(after, "byenatos_slot_ready", slot="default", model="echo") == 1
        assert value(after, "byenatos_http_waiting", worker="1") == 1  # the scrape itself
        assert value(after, "byenatos_front_workers_ready", front="http") == 1
        open_metrics = await http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert open_metrics.text.endswith("# EOF\n")


async def test_metrics_count_swaps_by_how_they_ended_and_what_they_moved_by_level(kernel):
    async with speaking(kernel) as http, kernel.client() as client:
        before = series((await http.get("/metrics")).text)
        async with client.stream("x", extra=counting(-1, 50)) as answer:
            deltas = aiter(answer)
            await anext(deltas)
            swapping = asyncio.create_task(
                http.post(
                    f"{ROOT}/slots/default/swap", json={"model": "spare", "strategy": "immediate", "until": "retired"}
                )
            )
            while not swapping.done():
                await anext(deltas)
        await http.post(f"{ROOT}/slots/default/swap", json={"model": "nothing"})
        await http.post(f"{ROOT}/slots/default/swap", json={"model": "echo", "until": "retired"})
        after = series((await http.get("/metrics")).text)

        def grown(name, **labels):
            key = (name, frozenset(labels.items()))
            return after[key] - before[key]

        outcomes = {
            outcome: grown("byenatos_swaps_total", outcome=outcome) for outcome in ("retired", "failed", "rolled_back")
        }
        assert outcomes == {"retired": 2, "failed": 1, "rolled_back": 0}
        assert grown("byenatos_swap_moves_total", level="text") == 1
        assert grown("byenatos_swap_moves_total", level="kv") == 0
        assert after["byenatos_slot_waiting", frozenset({("slot", "default"), ("model", "echo")})] == 0


async def test_health_is_said_in_every_probe_s_way(kernel):
    async with speaking(kernel) as http:
        assert (await http.get("/healthz")).text == "ok\n"
        assert (await http.get("/readyz")).text == "ok\n"
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.head("/healthz")).status_code == 200
        assert (await http.get(f"{ROOT}/health")).json()["status"] == "ok"


async def test_without_a_slot_that_answers_it_lives_and_is_not_ready(start_kernel):
    kernel = start_kernel(default=None, fronts={"http": {"listen": "127.0.0.1:0"}})
    async with kernel.client() as client:
        status = await until(client, lambda status: status.fronts[0].ready == 1)
    async with httpx.AsyncClient(base_url=f"http://{status.fronts[0].address}", trust_env=False) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        loading = await http.get("/health")
        assert loading.status_code == 503
        assert loading.json()["error"]["type"] == "unavailable_error"
        assert (await http.get(f"{ROOT}/health")).json()["status"] == "down"


# ---- Hugging Face's and llama.cpp's servers ----------------------------------------------------------------------


async def test_hugging_face_s_own_client_continues_texts(kernel):
    async with speaking(kernel) as http:
        url = str(http.base_url)

        def ask():
            with InferenceClient(url) as client:
                details = client.text_generation("Say it again", details=True, max_new_tokens=9)
                pieces = list(client.text_generation("Say it again", stream=True, details=True))
                return client.text_generation("Say it again"), details, pieces

        text, details, pieces = await asyncio.to_thread(ask)
        assert text == details.generated_text == pieces[-1].generated_text == "Say it again"
        assert details.details.finish_reason == "eos_token"
        assert "".join(piece.token.text for piece in pieces if not piece.token.special) == "Say it again"


async def test_the_root_takes_texts_to_continue_and_texts_to_turn_into_vectors(kernel):
    async with speaking(kernel) as http:
        assert (await http.post("/", json={"inputs": "Hello"})).json() == [{"generated_text": "Hello"}]
        stream = await http.post("/", json={"inputs": "Hello", "stream": True})
        assert stream.headers["content-type"] == "text/event-stream"
        for body, agent in (({"inputs": ["Hello"]}, "curl"), ({"inputs": "Hello"}, "unknown/None; hf_hub/2.4.0")):
            vectors = await http.post("/", json=body, headers={"user-agent": agent})
            assert "error_type" in vectors.json() or isinstance(vectors.json(), list)
            assert vectors.json() != [{"generated_text": "Hello"}]


async def test_llama_cpp_s_completions_and_state_are_read_by_its_own_format(kernel):
    async with speaking(kernel) as http:
        for path in ("/completion", "/completions"):
            whole = await http.post(path, json={"prompt": "Hello there", "n_predict": 9})
            assert whole.json()["content"] == "Hello there"
            assert whole.json()["stop"] is True
        stream = await http.post("/completion", json={"prompt": "Hello there", "stream": True})
        chunks = [json.loads(line.removeprefix("data: ")) for line in stream.text.splitlines() if line]
        assert "".join(chunk["content"] for chunk in chunks) == "Hello there"
        assert [chunk["stop"] for chunk in chunks][-1] is True
        assert "choices" in (await http.post("/v1/completions", json={"model": "default", "prompt": "Hello"})).json()
        props = await http.get("/props")
        assert llamacpp_server.decode_props(wire(props)).id == "default"
        assert llamacpp_server.decode_props(wire(await http.get("/props?model=other"))).id == "other"
        assert llamacpp_server.decode_slots(wire(await http.get("/slots"))) == (2, 0)
        info = huggingface_tgi.decode_models(wire(await http.get("/info")))
        assert [model.id for model in info[0]] == ["default"]


async def test_tokens_that_a_driver_does_not_know_are_refused_in_the_words_of_the_server_that_was_meant(kernel):
    async with speaking(kernel) as http:
        for path, body in (("/tokenize", {"content": "x"}), ("/detokenize", {"tokens": [1]})):
            answer = await http.post(path, json=body)
            assert answer.status_code == 501
            assert answer.json()["error"]["type"] == "not_supported_error"
            assert isinstance(llamacpp_server.decode_error(wire(answer)), Unsupported)
        answer = await http.post("/tokenize", json={"inputs": "x"})
        assert answer.status_code == 422
        assert answer.json()["error_type"] == "validation"


def wire(response):
    return WireResponse(response.content, response.status_code, dict(response.headers))


# ---- a real model ------------------------------------------------------------------------------------------------


@pytest.mark.model
async def test_a_real_model_is_continued_and_described_in_both_servers_ways(start_kernel, home, smollm2):
    home.models.mkdir(parents=True, exist_ok=True)
    (home.models / "smollm2.gguf").symlink_to(smollm2)
    kernel = start_kernel(default="smollm2", fronts={"http": {"listen": "127.0.0.1:0"}})
    async with kernel.client() as client:
        await until_ready(client, "default")
        status = await until(client, lambda status: status.fronts[0].ready == 1)
    url = f"http://{status.fronts[0].address}"
    prompt = "The capital of France is"
    async with httpx.AsyncClient(base_url=url, timeout=CEILING_S, trust_env=False) as http:
        limits = {"max_new_tokens": 6, "details": True, "do_sample": False, "top_k": 1}
        generated = (await http.post("/generate", json={"inputs": prompt, "parameters": limits})).json()
        assert "Paris" in generated["generated_text"]
        assert generated["details"]["generated_tokens"] == 6
        assert generated["details"]["finish_reason"] == "length"
        asked = {"prompt": prompt, "n_predict": 6, "temperature": 0}
        split = (await http.post("/tokenize", json={"content": prompt})).json()["tokens"]
        assert 4 <= len(split) <= 8
        assert (await http.post("/detokenize", json={"tokens": split})).json() == {"content": prompt}
        pieces = (await http.post("/tokenize", json={"content": "Straße 😀", "with_pieces": True})).json()["tokens"]
        said = b"".join(
            one["piece"].encode() if isinstance(one["piece"], str) else bytes(one["piece"]) for one in pieces
        )
        assert said.decode() == "Straße 😀"
        placed = (await http.post("/tokenize", json={"inputs": "Straße 😀!"})).json()
        assert [placed[0]["start"], placed[-1]["start"], placed[-1]["stop"]] == [0, 8, 9]
        assert all(one["stop"] == other["start"] for one, other in itertools.pairwise(placed))
        special = {"content": "<|im_end|>"}
        assert len((await http.post("/tokenize", json=special)).json()["tokens"]) == 1
        assert len((await http.post("/tokenize", json=special | {"parse_special": False})).json()["tokens"]) > 1
        wrong = await http.post("/detokenize", json={"tokens": [-1]})
        assert (wrong.status_code, "found -1" in wrong.text) == (400, True)
        assert (await http.post("/tokenize", json={"content": 7})).status_code == 400
        completed = (await http.post("/completion", json=asked)).json()
        assert "Paris" in completed["content"]
        assert completed["stop_type"] == "limit"
        assert completed["tokens_predicted"] == 6
        assert completed["tokens_evaluated"] >= len(prompt.split())
        described = llamacpp_server.decode_props(wire(await http.get("/props")))
        assert described.context_length > 0
        assert (await http.get("/info")).json()["max_total_tokens"] == described.context_length
