"""The runtime in a real process, spoken to over a real channel as the kernel would."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from byenatos_sdk.protocol.control import ProbeOrder, ProbeResult
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.frames import (
    Drain,
    DriverCall,
    DriverHello,
    Imported,
    Load,
    Ready,
    Refused,
    Reply,
    Start,
    Stop,
    Welcome,
)
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    ModelHealthStatus,
    ModelSpecification,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenCount,
    TokenizeRequest,
    ToolCallDelta,
    Usage,
    assistant,
    user,
)
from byenatos_sdk.testing import DriverProcess

MANIFEST = """
[plugin]
id = "{name}"
version = "1.2.3"
entry = "{entry}"
"""

HEAD = """
import asyncio, sys, threading, time
from pathlib import Path
from byenatos_sdk.driver import Driver
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import *
from byenatos_sdk.protocol.messages import *
"""

SIX_LINES = """
from byenatos_sdk.driver import Driver

class Echo(Driver):
    async def infer(self, request):
        for word in request.messages[-1].text.split():
            yield word + " "
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    def write(code: str, *, entry: str = "driver:Echo", name: str = "sample") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "plugin.toml").write_text(MANIFEST.format(name=name, entry=entry))
        (folder / "driver.py").write_text(code)
        return folder

    return write


@pytest.fixture
def driven(plugin: Callable[..., Path]) -> Iterator[Callable[..., DriverProcess]]:
    """Start a driver whose class body is given and have it load a model."""
    running: list[DriverProcess] = []

    def start(body: str, **load: object) -> DriverProcess:
        lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
        process = DriverProcess(plugin(f"{HEAD}\nclass Echo(Driver):\n{lines}")).__enter__()
        running.append(process)
        process.load(**load)
        return process

    yield start
    for process in running:
        process.__exit__(None, None, None)


class Fifo:
    """A line on which a driver can call, so that a test need not look again and again."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self) -> None:
        assert select.select([self._end], [], [], 60)[0], "the driver did not call"

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    line = Fifo(tmp_path / "fifo")
    yield line
    line.close()


def ask(said: str = "hello", **fields: object) -> InferenceRequest:
    return InferenceRequest((user(said),), **fields)


def text(events: list) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# ---- handshake and loading -------------------------------------------------------------------------------------


def test_the_six_line_driver_answers_and_drains(plugin):
    with DriverProcess(plugin(SIX_LINES)) as driver:
        specification = driver.load("some-model")
        assert specification == ModelSpecification("some-model", driver="sample")
        events = driver.answer(ask("so it goes"))
        assert events == [TextDelta("so "), TextDelta("it "), TextDelta("goes "), Finish()]
        assert driver.drain() == 0
        assert driver.output() == ""


def test_it_introduces_itself_with_the_token_and_says_when_it_imported(plugin):
    with DriverProcess(plugin(SIX_LINES)) as driver:
        hello = driver.hello
        assert hello == DriverHello(
            "handed over once", (1,), ("moved", "pause", "warm"), "sample", "1.2.3", driver.process.pid
        )
        driver.send(Load(), {"model": "m"})
        assert driver.expect(0, Imported) == Imported()
        assert driver.expect(0, Ready)


def test_a_refused_driver_says_why_and_leaves_with_status_3(plugin):
    with DriverProcess(plugin(SIX_LINES), welcome=False) as driver:
        driver.send(Refused("this kernel speaks major 9 only"))
        assert driver.status() == 3
        assert "this kernel speaks major 9 only" in driver.output()


def test_a_driver_whose_kernel_closes_the_channel_leaves(plugin):
    with DriverProcess(plugin(SIX_LINES)) as driver:
        driver.load()
        driver.close_channel()
        assert driver.status() == 1


def test_settings_that_a_driver_refuses_are_no_fault_of_its_code(plugin):
    code = f"{HEAD}\nclass Echo(Driver):\n    async def infer(self, request):\n        yield ''\n"
    code += "    def __init__(self, settings):\n        raise InvalidRequest('pace: expected one')\n"
    with DriverProcess(plugin(code)) as driver, pytest.raises(ByenatosError) as caught:
        driver.load("one")
    assert caught.value.message == "driver 'sample' cannot load 'one': pace: expected one"
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("code", "entry", "said"),
    [
        ("import no_such_thing", "driver:Echo", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("Echo = 3", "driver:Echo", "expected 'driver:Echo' to name a subclass of byenatos_sdk.Driver, found 3"),
        ("", "driver:Echo", "expected a class 'Echo' in module 'driver'"),
        (f"{HEAD}\nclass Echo(Driver): pass", "driver:Echo", "expected 'driver:Echo' to define infer"),
        ("raise ValueError('at import')", "driver:Echo", "ValueError: at import"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_reported_and_leaves(plugin, code, entry, said):
    with DriverProcess(plugin(code, entry=entry)) as driver:
        with pytest.raises(ByenatosError) as caught:
            driver.load()
        assert said in caught.value.message
        assert "'sample' cannot be imported" in caught.value.message
        assert driver.status() == 1
        assert "Traceback" in driver.output()


def test_a_model_that_cannot_be_loaded_is_reported_with_the_error_of_the_driver(plugin):
    start = "    async def start(self, model):\n        raise ValueError(f'no {model.path}, {model.settings}')\n"
    code = SIX_LINES + start
    with DriverProcess(plugin(code)) as driver:
        with pytest.raises(ByenatosError) as caught:
            driver.load("m", path=Path("/models/m.gguf"), settings={"a": 1})
        assert caught.value.message == ("driver 'sample' cannot load 'm': ValueError: no /models/m.gguf, {'a': 1}")
        assert driver.status() == 1


def test_a_specification_is_completed_and_a_malformed_one_refused(plugin, tmp_path):
    good = "    continues = True\n    async def start(self, model):\n        return ModelSpecification('x', name='N')\n"
    imports = "from byenatos_sdk.protocol.messages import ModelSpecification\n"
    with DriverProcess(plugin(imports + SIX_LINES + good)) as driver:
        assert driver.load("m") == ModelSpecification("m", "sample", "N", features=frozenset({"continue"}))
    bad = "    async def start(self, model):\n        return 'ready'\n"
    said = r"expected Echo.start to return a ModelSpecification, found 'ready'"
    with DriverProcess(plugin(SIX_LINES + bad, name="bad")) as driver, pytest.raises(ByenatosError, match=said):
        driver.load()


# ---- answering -------------------------------------------------------------------------------------------------


def test_every_kind_of_delta_reaches_the_kernel_and_empty_text_does_not(driven):
    driver = driven("""
async def infer(self, request):
    yield ReasoningDelta("hm", "signed")
    yield ""
    yield TextDelta("")
    yield TextDelta("a")
    yield ToolCallDelta("1", "f", "{}")
    yield Finish("tool_calls", Usage(1, 2))
    yield "never"
""")
    assert driver.answer(ask()) == [
        ReasoningDelta("hm", "signed"),
        TextDelta("a"),
        ToolCallDelta("1", "f", "{}"),
        Finish("tool_calls", Usage(1, 2)),
    ]


def test_concurrent_requests_interleave(driven):
    driver = driven("""
async def infer(self, request):
    for number in range(3):
        yield f"{number}"
        await self.turn(number)
def __init__(self, settings):
    super().__init__(settings)
    self.arrived = {number: 0 for number in range(3)}
    self.all_here = {number: asyncio.Event() for number in range(3)}
async def turn(self, number):
    self.arrived[number] += 1
    if self.arrived[number] == 8:
        self.all_here[number].set()
    await self.all_here[number].wait()
""")
    streams = [driver.start(ask()) for _ in range(8)]
    assert [text(list(driver.stream(number))) for number in streams] == ["012"] * 8


def test_a_generator_that_never_waits_lets_others_through(driven):
    driver = driven("""
async def infer(self, request):
    while request.messages[-1].text == "endless":
        yield "x"
    yield "short"
""")
    endless = driver.start(ask("endless"))
    driver.expect(endless, TextDelta)
    assert text(driver.answer(ask("short"))) == "short"
    driver.send(Stop(endless))
    assert driver.drain() == 0


@pytest.mark.parametrize(
    ("raised", "failure"),
    [
        ("RateLimited('slow down', retry_after_s=3)", Failure("rate_limited", "slow down", 3.0)),
        ("ContextLengthExceeded('too long')", Failure("context_length_exceeded", "too long")),
        ("KeyError('k')", Failure("internal", "KeyError: 'k'")),
        ("asyncio.CancelledError()", Failure("internal", "Echo.infer was cancelled by its own code")),
    ],
)
def test_what_a_driver_raises_ends_the_answer_with_its_code(driven, raised, failure):
    driver = driven(f"async def infer(self, request):\n    yield 'a'\n    raise {raised}")
    assert driver.answer(ask()) == [TextDelta("a"), failure]
    assert driver.answer(ask()) == [TextDelta("a"), failure]


@pytest.mark.parametrize(
    ("yielded", "said"),
    [
        ("3", "found 3"),
        ("TextDelta(None)", "found TextDelta(text=None)"),
        ("TextDelta(7)", "text: Expected `str`, got `int`"),
        ("Finish('because')", "reason: Invalid enum value 'because'"),
        ("Finish(usage=Usage(1, 'many'))", "usage.output_tokens: Expected `int | null`, got `str`"),
        ("Moved('a', 'b', 'c')", "found Moved("),
    ],
)
def test_what_is_no_delta_ends_the_answer_and_not_the_process(driven, yielded, said):
    driver = driven(f"async def infer(self, request):\n    yield 'a'\n    yield {yielded}")
    first, last = driver.answer(ask())
    assert first == TextDelta("a")
    assert last.code == "internal"
    assert "expected a str or a well-formed delta" in last.message
    assert said in last.message
    assert driver.answer(ask())


def test_half_a_character_becomes_a_question_mark(driven):
    driver = driven("async def infer(self, request):\n    yield 'a'\n    yield 'b\\ud83d'\n    yield 'c'")
    assert text(driver.answer(ask())) == "ab?c"


def test_a_text_too_long_for_a_frame_arrives_whole_in_pieces(driven):
    driver = driven(
        "async def infer(self, request):\n    yield 'start '\n    yield '\\u20ac' * 500_000\n    yield ' end'"
    )
    events = driver.answer(ask())
    assert text(events) == "start " + "\u20ac" * 500_000 + " end"
    assert max(len(event.text) for event in events if isinstance(event, TextDelta)) <= 32 << 10


def test_an_event_too_large_for_the_kernel_ends_the_answer(driven):
    driver = driven("async def infer(self, request):\n    yield ToolCallDelta('1', 'f', 'x' * (2 << 20))")
    (failure,) = driver.answer(ask())
    assert failure.code == "internal"
    assert "expected a ToolCallDelta of at most 1048576 bytes" in failure.message


def test_an_infer_that_is_no_generator_is_explained(driven):
    driver = driven("def infer(self, request):\n    return 'text'")
    (failure,) = driver.answer(ask())
    assert "expected infer to be 'async def' with 'yield'" in failure.message


def test_a_body_that_is_no_request_is_refused(driven):
    driver = driven("async def infer(self, request):\n    yield 'a'")
    driver.send(Start(70), {"messages": "none"})
    failure = driver.expect(70, Failure)
    assert failure.code == "invalid_request"
    assert "expected an InferenceRequest" in failure.message


def test_a_request_before_the_model_is_loaded_is_refused(plugin):
    with DriverProcess(plugin(SIX_LINES)) as driver:
        (failure,) = driver.answer(ask())
        assert failure.code == "unavailable"


# ---- cancelling ------------------------------------------------------------------------------------------------

MARKED = """
async def infer(self, request):
    mark = Path(request.extra["mark"])
    try:
        yield "begun"
        while True:
            {body}
    finally:
        mark.write_text("closed")
"""


@pytest.mark.parametrize("body", ["await asyncio.sleep(3600)", "yield 'more'"])
def test_a_stop_closes_the_generator_and_nothing_more_is_said(driven, tmp_path, body):
    driver = driven(MARKED.format(body=body))
    mark = tmp_path / "mark"
    stream = driver.start(ask(extra={"mark": str(mark)}))
    assert driver.expect(stream, TextDelta) == TextDelta("begun")
    driver.send(Stop(stream))
    assert driver.drain() == 0
    assert mark.read_text() == "closed"
    assert not [event for event in driver.waiting(stream) if isinstance(event, Finish | Failure)]
    assert driver.output() == ""


def test_stopping_what_is_not_running_is_nothing(driven):
    driver = driven("async def infer(self, request):\n    yield 'a'")
    driver.send(Stop(999))
    assert text(driver.answer(ask())) == "a"


# ---- engines ---------------------------------------------------------------------------------------------------

THREADED = """
async def start(self, model):
    self.calls = []
    self.wake = threading.Event()
    threading.Thread(target=self.run, daemon=True).start()
def serve(self, call):
    self.calls.append([call, 0])
    self.wake.set()
    return True
async def infer(self, request):
    yield "serve answers"
def uncongested(self):
    self.wake.set()
def say_paused(self, request):
    if "fifo" in request.extra:
        Path(request.extra["fifo"]).write_text("paused")
def run(self):
    while True:
        self.wake.wait()
        self.wake.clear()
        while self.calls:
            if self.calls[0][0].congested:
                self.say_paused(self.calls[0][0].request)
                break
            for pair in self.calls[:]:
                call, number = pair
                wanted = call.request.extra["tokens"]
                if call.cancelled:
                    self.calls.remove(pair)
                elif number == wanted:
                    call.emit(Finish(usage=Usage(0, number)))
                    call.emit("too late")
                    self.calls.remove(pair)
                else:
                    call.emit(f"{number} ")
                    pair[1] += 1
            if self.calls:
                self.calls[0][0].flush()
"""


def test_an_engine_in_a_thread_steps_many_streams(driven):
    driver = driven(THREADED)
    wanted = "".join(f"{number} " for number in range(500))
    for _ in range(2):
        streams = [driver.start(ask(extra={"tokens": 500})) for _ in range(32)]
        for stream in streams:
            events = list(driver.stream(stream))
            assert text(events) == wanted
            assert events[-1] == Finish(usage=Usage(0, 500))
    assert driver.drain() == 0
    assert "request 1: emitted after its end, dropped: 'too late'" in driver.output()


def test_a_kernel_that_does_not_read_pauses_the_engine_and_loses_nothing(driven, fifo):
    driver = driven(THREADED)
    tokens = 40_000
    streams = [driver.start(ask(extra={"tokens": tokens, "fifo": str(fifo.path)})) for _ in range(2)]
    fifo.wait()
    wanted = "".join(f"{number} " for number in range(tokens))
    assert [text(list(driver.stream(stream))) == wanted for stream in streams] == [True, True]


def test_a_kernel_that_does_not_read_pauses_generators_and_loses_nothing(driven, fifo):
    driver = driven("""
async def start(self, model):
    self.reached = 0
async def watch(self, fifo):
    seen = -1
    while seen != self.reached or not seen:
        seen = self.reached
        await asyncio.sleep(0.2)
    fifo.write_text("paused")
async def infer(self, request):
    self.watching = asyncio.create_task(self.watch(Path(request.extra["fifo"])))
    for self.reached in range(100_000):
        yield f"{self.reached} {'x' * 400} "
""")
    stream = driver.start(ask(extra={"fifo": str(fifo.path)}))
    fifo.wait()
    words = text(list(driver.stream(stream))).split()[::2]
    assert words == [str(number) for number in range(100_000)]


def test_an_error_while_a_call_is_taken_over_ends_it(driven):
    driver = driven("""
def serve(self, call):
    call.emit("a")
    raise RateLimited("not now")
async def infer(self, request):
    yield "never"
""")
    assert driver.answer(ask()) == [TextDelta("a"), Failure("rate_limited", "not now")]


def test_half_a_surrogate_pair_in_an_error_does_not_keep_it_from_being_told(driven):
    driver = driven("""
async def infer(self, request):
    yield "a"
    raise ValueError("vendor said \\ud83d")
async def health(self):
    raise ValueError("vendor said \\ud83d")
""")
    assert driver.answer(ask()) == [TextDelta("a"), Failure("internal", "ValueError: vendor said ?")]
    driver.send(DriverCall(-1, "health"))
    assert driver.expect(-1, Failure).message == "ValueError: vendor said ?"
    assert driver.answer(ask())[0] == TextDelta("a")


def test_half_a_surrogate_pair_in_the_error_of_a_load_is_told(driven):
    with pytest.raises(ByenatosError, match=r"vendor said \?"):
        driven("""
async def start(self, model):
    raise ValueError("vendor said \\ud83d")
async def infer(self, request):
    yield "a"
""")


def test_what_a_driver_raises_past_all_nets_costs_its_own_request_only(driven):
    driver = driven("""
def serve(self, call):
    if call.request.messages[-1].text == "stumble":
        raise __import__("asyncio").CancelledError
    return False
async def infer(self, request):
    yield "a"
""")
    driver.start(InferenceRequest((user("stumble"),)))
    assert driver.answer(ask()) == [TextDelta("a"), Finish()]
    assert driver.answer(ask()) == [TextDelta("a"), Finish()]


# ---- what a request looks like to a driver ---------------------------------------------------------------------

SHOW = """
async def infer(self, request):
    yield "|".join(f"{message.role}:{message.text}" for message in request.messages)
    yield f" partial={request.partial!r} {request.sampling.max_tokens} {request.sampling.temperature}"
"""


def test_the_defaults_of_the_operator_fill_what_the_request_leaves_open(driven):
    driver = driven(SHOW, max_tokens=77, temperature=0.5)
    assert text(driver.answer(ask())).endswith(" 77 0.5")
    assert text(driver.answer(ask(sampling=Sampling(max_tokens=5)))).endswith(" 5 0.5")
    assert text(driver.answer(ask(sampling=Sampling(temperature=0.0)))).endswith(" 77 0.0")


@pytest.mark.parametrize(("order", "asked", "found"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_request_is_strict_if_it_says_so_or_the_operator_does(driven, order, asked, found):
    driver = driven("async def infer(self, request):\n    yield str(request.strict)", strict=order)
    assert text(driver.answer(ask(strict=asked))) == str(found)


def test_a_driver_that_continues_gets_the_partial_answer_as_the_last_message(driven):
    driver = driven(f"continues = True\n{SHOW}")
    assert text(driver.answer(ask("q"), "so f")).startswith("user:q|assistant:so f partial='so f'")
    prefilled = InferenceRequest((user("q"), assistant("so ")))
    assert text(driver.answer(prefilled, "far")).startswith("user:q|assistant:so far partial='so far'")


def test_a_driver_that_does_not_continue_is_asked_to(driven):
    driver = driven(SHOW)
    seen = text(driver.answer(ask("q"), "so f"))
    assert seen.startswith("user:q|assistant:so f|user:Your answer was cut off. Continue it exactly where it stopped")
    assert "partial=''" in seen


REPEATING = """
async def infer(self, request):
    yield ReasoningDelta("where was I?")
    for word in request.extra["says"]:
        yield word
        yield Logprobs((TokenLogprob(word, -1.0),))
    if request.extra.get("calls"):
        yield ToolCallDelta("1", "look", "{}")
"""


def test_what_a_model_repeats_when_it_is_asked_to_go_on_is_dropped(driven):
    driver = driven(REPEATING)
    says = ["It ", "jumps ", "over ", "the ", "lazy ", "dog."]
    events = driver.answer(ask("q", extra={"says": says}), "It jumps over the la")
    assert text(events) == "zy dog."
    assert events[0] == ReasoningDelta("where was I?")
    assert [delta.tokens[0].token for delta in events if isinstance(delta, Logprobs)] == ["lazy ", "dog."]
    assert events[-1] == Finish()


def test_what_was_held_back_comes_before_what_follows_it(driven):
    driver = driven(REPEATING)
    for calls in (False, True):
        events = driver.answer(ask("q", extra={"says": ["so "], "calls": calls}), "so so so ")
        assert text(events) == "so "
        assert events[1] == TextDelta("so ")
        assert any(isinstance(delta, Logprobs) for delta in events)
        assert isinstance(events[-2], ToolCallDelta) == calls


def test_an_answer_that_has_said_nothing_is_begun_anew(driven):
    driver = driven(SHOW)
    assert text(driver.answer(ask("q"), "")).startswith("user:q partial=''")


# ---- calls -----------------------------------------------------------------------------------------------------


def test_a_probe_asks_the_class_and_starts_nothing(plugin):
    code = """
    def __init__(self, settings):
        raise RuntimeError("not to be made")
    async def infer(self, request):
        yield ""
    @classmethod
    def probe(cls, path, settings):
        if path.name == "broken":
            raise InvalidRequest("truncated")
        return ProbeResult(ModelSpecification(path.stem, memory_bytes=settings.get("bytes", 0)))
"""
    with DriverProcess(plugin(f"{HEAD}\nclass Echo(Driver):{code}")) as driver:
        driver.send(DriverCall(1, "probe"), ProbeOrder("/models/one.gguf"))
        reply = driver.expect(1, Reply)
        assert msgspec.msgpack.decode(reply.body, type=ProbeResult) == ProbeResult(ModelSpecification("one"))
        driver.send(DriverCall(1, "probe"), ProbeOrder("/models/one.gguf", {"bytes": 7}))
        reply = driver.expect(1, Reply)
        assert msgspec.msgpack.decode(reply.body, type=ProbeResult).specification.memory_bytes == 7
        driver.send(DriverCall(2, "probe"), ProbeOrder("/models/broken"))
        assert driver.expect(2, Failure) == Failure("invalid_request", "truncated")
        assert driver.drain() == 0


def test_health_is_asked_of_the_driver(driven):
    driver = driven("""
async def infer(self, request):
    yield ""
async def health(self):
    return ModelHealthStatus("degraded", "hot", {"celsius": 90.0})
""")
    driver.send(DriverCall(9, "health"))
    status = msgspec.msgpack.decode(driver.expect(9, Reply).body, type=ModelHealthStatus)
    assert status == ModelHealthStatus("degraded", "hot", {"celsius": 90.0})


EMBEDS = """
async def infer(self, request):
    yield ""
async def embed(self, request):
    return EmbeddingResponse(tuple((float(len(text)),) * (request.dimensions or 1) for text in request.inputs))
async def count_tokens(self, request):
    return TokenCount(len(request.messages[-1].text))
async def models(self):
    return [ModelSpecification("one"), ModelSpecification("two", context_length=8)]
"""


def test_a_driver_makes_vectors_counts_tokens_and_lists_its_vendors_models(driven):
    driver = driven(EMBEDS)
    vectors = driver.call("embed", EmbeddingRequest(("a", "bcd"), dimensions=2))
    assert vectors == EmbeddingResponse(((1.0, 1.0), (3.0, 3.0)))
    assert driver.call("count_tokens", ask("four")) == TokenCount(4)
    assert driver.call("models") == [ModelSpecification("one"), ModelSpecification("two", context_length=8)]
    assert len(driver.call("embed", EmbeddingRequest(("a",), dimensions=200_000)).vectors[0]) == 200_000
    with pytest.raises(ByenatosError, match="does not know its model's tokens"):
        driver.call("tokenize", TokenizeRequest("a"))


def test_a_long_result_goes_in_pieces_and_one_that_is_too_long_is_refused(driven):
    driver = driven(EMBEDS)
    driver.send(DriverCall(-1, "embed"), EmbeddingRequest(("a",), dimensions=200_000))
    body = b""
    while (reply := driver.expect(-1, Reply)).more:
        body += reply.body
    response = msgspec.msgpack.decode(body + reply.body, type=EmbeddingResponse)
    assert response.vectors == ((1.0,) * 200_000,)
    driver.send(DriverCall(-2, "embed"), EmbeddingRequest(("a",), dimensions=1_000_000))
    assert driver.expect(-2, Failure).code == "request_too_large"


def test_packages_in_vendor_are_found(plugin):
    code = "import loud\nfrom byenatos_sdk import Driver\n\n\nclass Echo(Driver):\n"
    code += "    async def infer(self, request):\n        yield loud.said(request.messages[-1].text)\n"
    folder = plugin(code)
    (folder / "vendor").mkdir()
    (folder / "vendor" / "loud.py").write_text("said = str.upper\n")
    with DriverProcess(folder) as driver:
        driver.load()
        assert driver.answer(ask("hello"))[0] == TextDelta("HELLO")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("__import__('tiktokken')", "packages of a driver's own lie in its vendor/"),
        ("open('/no/such/file')", "a driver's process has its own files only"),
        ("bytearray(1 << 62)", "memory_mib of its plugin.toml bounds what a driver has"),
        ("exec('raise PermissionError(1, None)')", "starts no other and opens no socket"),
    ],
)
def test_what_a_driver_meets_here_only_is_explained(driven, raised, said):
    driver = driven(f"async def infer(self, request):\n    yield {raised}")
    (failure,) = driver.answer(ask())
    assert failure.code == "internal"
    assert said in failure.message


@pytest.mark.parametrize("method", ["embed", "count_tokens", "models"])
def test_what_a_driver_lacks_is_unsupported(driven, method):
    driver = driven("async def infer(self, request):\n    yield ''")
    driver.send(DriverCall(-1, method), b"" if method == "models" else ask("x", extra={}))
    failure = driver.expect(-1, Failure)
    assert failure.code == ("invalid_request" if method == "embed" else "unsupported")
    driver.send(DriverCall(-2, "embed"), EmbeddingRequest(("a",)))
    assert driver.expect(-2, Failure).code == "unsupported"


def test_a_call_with_rubbish_or_a_rubbish_result_is_answered_by_an_error(driven):
    driver = driven("""
async def infer(self, request):
    yield ""
async def embed(self, request):
    return EmbeddingResponse((("x",),))
async def models(self):
    return ["gpt"]
""")
    for number, (method, body, code, said) in enumerate(
        (
            ("embed", b"\xc1", "invalid_request", "expected other parameters"),
            ("embed", EmbeddingRequest(("a",)), "internal", "well-formed EmbeddingResponse"),
            ("models", b"", "internal", "list"),
        )
    ):
        driver.send(DriverCall(-number - 1, method), body)
        failure = driver.expect(-number - 1, Failure)
        assert failure.code == code
        assert said in failure.message


def test_a_call_that_nobody_waits_for_is_cancelled(driven, fifo):
    driver = driven(
        """
async def infer(self, request):
    yield ""
async def embed(self, request):
    try:
        await asyncio.sleep(3600)
    finally:
        Path(self.settings["fifo"]).write_text("x")
""",
        settings={"fifo": str(fifo.path)},
    )
    driver.send(DriverCall(-1, "embed"), EmbeddingRequest(("a",)))
    driver.send(DriverCall(-2, "health"))
    driver.expect(-2, Reply)
    driver.send(Stop(-1))
    fifo.wait()
    assert not driver.waiting(-1)


def test_what_the_manifest_declares_fills_in_what_the_driver_does_not_say(plugin):
    declared = ModelSpecification(
        "m", name="M", context_length=8, features=frozenset({"tools"}), metadata={"price.input": "2.5", "a": "b"}
    )
    folder = plugin(f"""{HEAD}
class Echo(Driver):
    continues = True
    async def infer(self, request):
        yield ""
    async def start(self, model):
        return ModelSpecification(model.id, context_length=16, metadata={{"a": "c"}})
""")
    with DriverProcess(folder) as driver:
        found = driver.load(declared=declared)
    assert (found.id, found.driver, found.name, found.context_length) == ("model", "sample", "M", 16)
    assert found.features == {"tools", "continue"}
    assert found.metadata == {"price.input": "2.5", "a": "c"}


def test_an_unknown_call_is_answered(driven):
    driver = driven("async def infer(self, request):\n    yield ''")
    driver.send(DriverCall(9, "dance"))
    assert driver.expect(9, Failure).code == "not_found"


# ---- heart, drain, end -----------------------------------------------------------------------------------------


WAITING = """
def wait(self, request):
    Path(request.extra["go"]).read_text()  # until the test has written
async def infer(self, request):
    {wait}
    yield "done"
"""


def test_a_driver_busy_in_a_thread_is_of_age_zero(driven, tmp_path):
    driver = driven(WAITING.format(wait="await asyncio.to_thread(self.wait, request)"))
    os.mkfifo(go := tmp_path / "go")
    stream = driver.start(ask(extra={"go": str(go)}))
    for _ in range(3):
        driver.beat(lambda beat: beat.streams == 1 and beat.loop_age_ms == 0)
    go.write_text("go")
    assert text(list(driver.stream(stream))) == "done"
    driver.beat(lambda beat: beat.streams == 0)


def test_a_loop_that_is_blocked_for_long_under_an_answer_is_told_where(driven):
    driver = driven("""
from byenatos_sdk.runtime import heartbeat
heartbeat.TELL_S = 0.2
def lingering(self):
    time.sleep(1.0)
async def infer(self, request):
    self.lingering()
    yield "at last"
""")
    assert driver.answer(ask())[0] == TextDelta("at last")
    said = driver.output()
    assert said.count("the event loop has been blocked for") == 1
    assert "what blocks belongs into a thread (asyncio.to_thread). It is here:" in said
    assert "time.sleep(1.0)" in said


def test_a_blocked_loop_ages_and_recovers(driven, tmp_path):
    driver = driven(WAITING.format(wait="self.wait(request)"))
    os.mkfifo(go := tmp_path / "go")
    stream = driver.start(ask(extra={"go": str(go)}))
    younger = driver.beat(lambda beat: beat.loop_age_ms > 0)
    driver.beat(lambda beat: beat.loop_age_ms > younger.loop_age_ms)
    go.write_text("go")
    assert text(list(driver.stream(stream))) == "done"
    driver.beat(lambda beat: beat.loop_age_ms == 0)


def test_a_drain_lets_running_streams_finish_and_takes_no_new_one(driven, tmp_path):
    driver = driven("""
async def infer(self, request):
    yield "a"
    await asyncio.to_thread(Path(request.extra["go"]).read_text)  # until the test has written
    yield "b"
async def stop(self):
    print("stopped", flush=True)
""")
    os.mkfifo(go := tmp_path / "go")
    stream = driver.start(ask(extra={"go": str(go)}))
    driver.expect(stream, TextDelta)
    driver.send(Drain())
    (refused,) = driver.answer(ask(extra={"go": str(go)}))
    assert refused.code == "draining"
    go.write_text("go")
    assert list(driver.stream(stream)) == [TextDelta("b"), Finish()]
    assert driver.status() == 0
    assert driver.output() == "stopped\n"


def test_sigterm_cancels_streams_stops_the_driver_and_leaves_with_status_0(driven, tmp_path):
    driver = driven(MARKED.format(body="await asyncio.sleep(3600)"))
    mark = tmp_path / "mark"
    driver.expect(driver.start(ask(extra={"mark": str(mark)})), TextDelta)
    os.kill(driver.process.pid, signal.SIGTERM)
    assert driver.status() == 0
    assert mark.read_text() == "closed"


def test_rubbish_from_the_kernel_is_complained_about_and_survived(driven):
    driver = driven("async def infer(self, request):\n    yield 'alive'")
    for frame in (b"", b"\xff", b"\xff\xff\xff\xff", b"\x02\0\0\0\x91\x63", os.urandom(200)):
        driver.send_raw(frame)
    driver.send(Load(), {"model": "another"})
    driver.send(Welcome(1))
    assert text(driver.answer(ask())) == "alive"
    assert driver.output().count("is ignored") == 6
