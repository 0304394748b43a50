"""The bytes of protocol major 1, committed: an old client and a new kernel meet in these.

``golden_v1.json`` maps names to bytes in hexadecimal. What stands there is never changed; for a message that is new,
add a sample here and run this file as a program, which appends what is missing.
"""

import inspect
import json
import re
import types
import typing
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from byenatos_sdk.protocol import control, frames, messages, warm
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import InstanceState, SwapState

GOLDEN = Path(__file__).with_name("golden_v1.json")

MESSAGE = messages.Message("user", (messages.Text("Grüße 🌍"),))
SPECIFICATION = messages.ModelSpecification(
    "m", "llamacpp", "M", "llama", "Q8_0", 135_000_000, 8192, 144_811_456, "abc", frozenset({"continue"}), {"a": "b"}
)
SWAP = messages.SwapEvent(7, "default", "a", "b", "immediate", SwapState.SWITCHED, 1760000000.5, 0.25, "detail", 3, 2)
MOVE = messages.SessionMove("s1", "kv", 512, 12_000_000, 0.005, "exact")
SESSION = messages.SessionInfo("s1", "default", "1000", 1.5, 2.5, 4, "Sky")
INSTANCE = control.InstanceInfo(
    3, "llamacpp", "m", InstanceState.READY, 42, 1, 2, 1.5, "fine", SPECIFICATION, ("loaded",)
)
ISOLATED = msgspec.structs.replace(
    INSTANCE, template="one-shot", layers={"cgroup": "missing: none is delegated"}, open={"resources": "no bound"}
)
MODEL = control.ModelInfo("m", "llamacpp", "refused", "no header", "/models/m.gguf", SPECIFICATION, 1, ("default",))
SLOT = control.SlotInfo("default", "m", "ready", (3,), 1, SWAP, "fine")
PLUGIN = control.PluginInfo(
    *("echo", "/plugins/echo", "driver", "1.0.0", "Says it again", "refused", "too old"),
    *("acme", "9f86d081884c7d65", "ab" * 32, "nobody signed it"),
)
FRONT = control.FrontInfo("http", "127.0.0.1:8421", 1, 2, "no plugin")
TURN = control.Turn(1, MESSAGE, "partial", "m", 1.5, 1)

VALUES = [
    MESSAGE,
    messages.Text("x"),
    messages.Image("image/jpeg", b"\xff\xd8", "https://example.org/x.jpg", "low"),
    messages.Audio(b"RIFF", "audio/mpeg"),
    messages.File("a.pdf", "application/pdf", b"%PDF", "https://example.org/a.pdf"),
    messages.ToolCall("1", "look", '{"at": 1}'),
    messages.ToolResult("1", "seen", True),
    messages.Reasoning("hm", "signed"),
    messages.Tool("look", "Look at it", {"type": "object"}),
    messages.ReasoningOptions("high", 2048, "auto"),
    messages.EmbeddingRequest(("a", "b"), "embedder", 256, {"truncate": True}),
    messages.EmbeddingResponse(((0.5, -0.25),), "embedder", messages.Usage(3, 0)),
    messages.TokenCount(12, "m"),
    messages.TokenizeRequest("Hello", "m", special=False, begin=True, timeout_s=2.5),
    messages.DetokenizeRequest((1, 70_000), "m", 2.5),
    messages.Tokens((1, 70_000), (b"<s>", b"\xf0\x9f")),
    messages.Sampling(0.7, 0.9, 40, 0.05, 128, ("\n",), 42, 0.1, 0.2, 1.1, {5: -1.5}, 3),
    messages.InferenceRequest(
        (MESSAGE, messages.assistant("Half an")),
        "r1",
        "coder",
        messages.Sampling(temperature=0.0),
        (messages.Tool("look"),),
        "none",
        {"type": "json_object"},
        "s1",
        "chat",
        "local",
        60.0,
        5.0,
        {"a": "b"},
        {"echo": {"rate": 10}},
        7,
    ),
    messages.Usage(1, 2, 3),
    messages.TokenLogprob("x", -0.5, (("y", -1.5),)),
    messages.InferenceResponse(MESSAGE, "stop", messages.Usage(1, 2, 3), "m", (messages.Moved("a", "b", "swap"),)),
    SPECIFICATION,
    messages.ModelHealthStatus("degraded", "slow", {"ttft_s": 1.5}),
    messages.SwapRequest("default", "b", "immediate", "test", "retired"),
    SWAP,
    MOVE,
    SESSION,
    control.Empty(),
    control.Named("s1"),
    control.MoveOrder("s1", "m", now=True),
    control.LoadRequest("m", "coder"),
    control.ReloadRequest("m", "immediate"),
    control.DriverRequest("echo", "immediate"),
    control.Renewal("echo", "2", "ab" * 32, ("m",), ("default",)),
    control.UnloadRequest("m"),
    control.RefreshRequest("openai"),
    control.ListRefreshed("openai", 9, ("new",), ("old",), ("m",), 2, "no key"),
    MODEL,
    PLUGIN,
    INSTANCE,
    SLOT,
    control.KernelStatus(
        "0.1.0", 1, "/home", "ipc:///home/run/kernel.sock", 9.5, 1 << 24, 0.5, 1, 2, 3, 4, (SLOT,), (INSTANCE,),
        (PLUGIN,), ("no landlock",),
    ),
    FRONT,
    TURN,
    control.SessionTranscript(SESSION, (TURN,)),
    control.KeepOrder("s1", "default", (MESSAGE,), b"note"),
    control.SessionState("s1", "m", 512, 12_000_000),
    control.SecretInfo("openai", "environment OPENAI_API_KEY", "it is not set"),
    control.InstanceChanged(1.5, INSTANCE),
    control.DriverFailed(1.5, 3, "llamacpp", "m", "killed by SIGSEGV", ("oops",)),
    control.DriverRestarting(1.5, "llamacpp", "m", 0.5, 1),
    control.ModelChanged(1.5, MODEL),
    control.SwapAdvanced(1.5, SWAP),
    control.ModelUsage("m", 30, 0.75, loaded=True, preloaded=True, likely=True),
    control.UsageReport(9, True, 4, True, 0.2, (control.ModelUsage("m", 30, 0.75),)),
    control.TriggerFired(
        *(1.5, "slow", "default", "small", "p95_latency_s", 9.5, 8.0), returning=True, dry_run=True, problem="no room"
    ),
    control.TriggerInfo(
        *("slow", "performance", "default", "small", "fired", "p95_latency_s", 9.5, 8.0, 2.0, 4.0, 1.5, 301.5),
        *("swap default back to big", True, "no room"),
    ),
    control.LoadOrder("m", "/model", {"n_ctx": 4096}, 128, 0.5),
    control.ProbeOrder("/model"),
    control.ProbeResult(SPECIFICATION, "expected GGUF"),
    warm.Fingerprint("model=1", "threads=1"),
    warm.Piece(2, 5, 640, b"\x80"),
    warm.Placed(0, 2, 4096, 640),
    warm.Holding("s1", 5, 640),
    warm.Subject("s1"),
    warm.Reach(7, 5),
    warm.Reached(5),
    warm.Export(7, 2, 4096, 640),
    warm.Restore("s1", (warm.Placed(0, 2, 4096, 640),)),
    warm.Prefill("s1", (MESSAGE,)),
    warm.Read(messages.InferenceRequest((MESSAGE,)), "The "),
]  # fmt: skip
DELTAS = [
    messages.TextDelta("Grüße"),
    messages.ReasoningDelta("hm", "signed"),
    messages.ToolCallDelta("1", "look", '{"at": 1}'),
    messages.Logprobs((messages.TokenLogprob("x", -0.5, (("y", -1.5),)),)),
    messages.Moved("a", "b", "swap"),
    messages.Finish("length", messages.Usage(1, 2, 3), "m"),
    messages.Failure("rate_limited", "slow down", 2.5, True),
]
CLIENT_HEADERS = [
    frames.Hello((1,), ("moved", "pause"), "chat"),
    frames.Open(5, "coder", "s1", 1500, 500),
    frames.Cancel(5),
    frames.Ack(64),
    frames.Pause(5, True),
    frames.Call(6, "status"),
    frames.Bye(),
]
CLIENT_EVENTS = [
    *DELTAS,
    frames.Welcome(1, ("moved", "pause"), 0.25, "0.1.0"),
    frames.Refused("expected major 1, found 2"),
    frames.Reply(b"\x80"),
    frames.Notice(b"\x80"),
]
DRIVER_HEADERS = [
    frames.Welcome(1, ("moved",), 0.25, "0.1.0"),
    frames.Refused("wrong token"),
    frames.Load(),
    frames.Start(5, "Half an"),
    frames.Stop(5),
    frames.DriverCall(6, "probe"),
    frames.Drain(),
    frames.Resume(7, "Half", " an", b"\x80", (warm.Placed(0, 2, 4096, 640),)),
]
DRIVER_EVENTS = [
    "Sky",
    *(delta for delta in DELTAS if not isinstance(delta, messages.Moved | messages.TextDelta)),
    frames.Reply(b"\x80"),
    frames.DriverHello("token", (1,), ("moved",), "echo", "1.0.0", 42),
    frames.Imported(),
    frames.Ready(b"\x80"),
    frames.Beat(12, 3),
]


def name(family, value):
    return f"{family}.{type(value).__name__}"


def frame(family, value):
    """The bytes of a sample as they travel."""
    if family in {"client_event", "driver_event"}:
        return encode([(5, value)])
    return frames.join_driver_frame(value, b"body") if family == "driver_header" else encode(value)


def decode(family, value, data):
    """What today's decoder makes of the bytes of a sample."""
    if family == "client_header":
        return frames.decode_client_header(data)
    if family == "client_event":
        ((number, event),) = frames.decode_client_events(data)
        assert number == 5
        return event
    if family == "driver_event":
        ((number, event),) = frames.decode_driver_events(data)
        assert number == 5
        return event
    if family == "driver_header":
        header, body = frames.split_driver_frame(data)
        assert body == b"body"
        return header
    return msgspec.msgpack.decode(data, type=type(value))


SAMPLES = {
    name(family, value): (family, value)
    for family, values in {
        "value": VALUES,
        "client_header": CLIENT_HEADERS,
        "client_event": CLIENT_EVENTS,
        "driver_header": DRIVER_HEADERS,
        "driver_event": DRIVER_EVENTS,
    }.items()
    for value in values
}
# Fields that were added later; the first samples stay.
IMAGE = messages.Image(file_id="file-1", detail="original")
LATER = [
    ("value.InstanceInfo.2", ISOLATED),
    ("value.ModelSpecification.2", messages.ModelSpecification("m", settings={"base_url": "https://example.org"})),
    ("value.ModelInfo.2", control.ModelInfo("m", "openai", "available", offered_at=1.5)),
    ("value.ModelSpecification.3", msgspec.structs.replace(SPECIFICATION, memory_bytes=300_000_000)),
    ("value.SlotInfo.2", msgspec.structs.replace(SLOT, state="loading", waiting=12)),
    ("value.SlotInfo.3", msgspec.structs.replace(SLOT, kept="old", elsewhere=2)),
    ("value.ProbeOrder.2", control.ProbeOrder("/model", {"n_ctx": 4096})),
    ("value.LoadOrder.2", control.LoadOrder("m", digest="ab" * 32, declared=SPECIFICATION, strict=True)),
    ("value.LoadOrder.3", control.LoadOrder("m", background=True)),
    ("value.LoadOrder.4", control.LoadOrder("m", "/model", files={"/adapter": "cd" * 32})),
    (
        "value.KernelStatus.2",
        control.KernelStatus(
            "0.1.0", 1, "/home", "ipc:///home/run/kernel.sock", 9.5, 1 << 24, 0.5, 1, 2, 3, 4, fronts=(FRONT,)
        ),
    ),
    (
        "value.KernelStatus.3",
        control.KernelStatus(
            *("0.1.0", 1, "/home", "ipc:///home/run/kernel.sock", 9.5, 1 << 24, 0.5, 1, 2, 3, 4),
            swaps={"retired": 2},
            moves={"kv": 3},
        ),
    ),
    ("value.SessionTranscript.2", control.SessionTranscript(SESSION, (TURN,), b"note")),
    ("value.KeepOrder.2", control.KeepOrder("s1", "default", (MESSAGE,), b"note", 2.5)),
    ("value.SessionInfo.2", msgspec.structs.replace(SESSION, home="m")),
    ("value.SwapEvent.2", msgspec.structs.replace(SWAP, warm_streams=2)),
    ("value.SwapEvent.3", msgspec.structs.replace(SWAP, cause="slow", mode="sequential", sessions=(MOVE,))),
    ("value.SwapRequest.2", messages.SwapRequest("default", "b", "session_aware", force=True, keep_old_s=5.0)),
    ("value.PluginInfo.2", msgspec.structs.replace(PLUGIN, held="version 2 failed its self-test; 1 runs instead")),
    ("value.Image.2", IMAGE),
    ("value.File.2", messages.File(file_id="file-2")),
    ("value.ToolCall.2", messages.ToolCall("1", "look", "{}", "signed")),
    ("value.ToolResult.2", messages.ToolResult("1", "seen", name="look", images=(IMAGE,))),
    ("value.Reasoning.2", messages.Reasoning("", "signed", "gemini", redacted=True)),
    ("value.Tool.2", messages.Tool("look", strict=True)),
    ("value.Usage.2", messages.Usage(None, 2, 3, 4, 5)),
    (
        "value.InferenceRequest.2",
        messages.InferenceRequest(
            (MESSAGE,),
            parallel_tool_calls=False,
            reasoning=messages.ReasoningOptions("low", 1024, "auto"),
            raw=True,
            strict=True,
        ),
    ),
    (
        "value.InferenceResponse.2",
        messages.InferenceResponse(
            MESSAGE,
            "stop",
            messages.Usage(),
            "m",
            detail="stop_sequence",
            stop_sequence="END",
            adapted=("seed: dropped",),
            logprobs=(messages.TokenLogprob("x", -0.5),),
        ),
    ),
]
SAMPLES |= {key: ("value", value) for key, value in LATER}
for family in ("client_event", "driver_event"):
    SAMPLES[f"{family}.Reply.2"] = (family, frames.Reply(b"\x80", more=True))
    SAMPLES[f"{family}.Finish.2"] = (
        family,
        messages.Finish("stop", messages.Usage(1, 2), "m", "stop_sequence", "END", ("seed: dropped",)),
    )
    SAMPLES[f"{family}.ReasoningDelta.2"] = (family, messages.ReasoningDelta("", "signed", "gemini", redacted=True))
    SAMPLES[f"{family}.ToolCallDelta.2"] = (family, messages.ToolCallDelta("1", "look", "{}", "signed"))


def first(name):
    """The name of the sample of which this one shows fields that were added later."""
    return re.sub(r"\.\d+$", "", name)


LATEST = list({first(name): name for name in SAMPLES}.values())
STRUCTS = [name for name, (_, value) in SAMPLES.items() if isinstance(value, Struct) and first(name) == name]


def golden():
    return {name: bytes.fromhex(data) for name, data in json.loads(GOLDEN.read_text()).items()}


def test_every_golden_frame_has_a_sample_and_every_sample_a_golden_frame():
    assert golden().keys() == SAMPLES.keys()


def test_every_struct_of_the_protocol_has_a_sample():
    public = {
        kind
        for module in (messages, frames, control, warm)
        for name in module.__all__
        if inspect.isclass(kind := getattr(module, name)) and issubclass(kind, Struct)
    }
    assert public - {messages.Value} == {type(value) for _, value in SAMPLES.values()} - {str}


@pytest.mark.parametrize(
    ("union", "values"),
    [
        (frames.ClientHeader, CLIENT_HEADERS),
        (frames.ClientEvent, CLIENT_EVENTS),
        (frames.DriverHeader, DRIVER_HEADERS),
        (frames.DriverEvent, DRIVER_EVENTS),
        (messages.Delta, DELTAS),
        (control.Event, [value for value in VALUES if type(value) in typing.get_args(control.Event)]),
    ],
)
def test_every_member_of_every_union_has_a_sample(union, values):
    assert isinstance(union, types.UnionType)
    assert set(typing.get_args(union)) == {type(value) for value in values}


@pytest.mark.parametrize("name", STRUCTS)
def test_some_sample_sets_every_field_to_something_else_than_its_default(name):
    """So that a field that is dropped, renamed or reordered shows."""
    samples = [value for key, (_, value) in SAMPLES.items() if first(key) == name]
    for field in msgspec.structs.fields(type(samples[0])):
        if not field.required:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            assert any(getattr(value, field.name) != default for value in samples), field.name


@pytest.mark.parametrize("name", LATEST)
def test_todays_encoder_gives_the_golden_bytes(name):
    assert frame(*SAMPLES[name]).hex() == golden()[name].hex()


@pytest.mark.parametrize("name", SAMPLES)
def test_todays_decoder_reads_the_golden_bytes(name):
    family, value = SAMPLES[name]
    assert decode(family, value, golden()[name]) == value


def grown(value):
    """The same message from a later release: every map and array that is a struct has one field more."""
    if isinstance(value, Struct):
        config = type(value).__struct_config__
        fields = {field.encode_name: grown(getattr(value, field.name)) for field in msgspec.structs.fields(type(value))}
        if config.array_like:
            return [*([] if config.tag is None else [config.tag]), *fields.values(), {"future": [1]}]
        return {**({} if config.tag is None else {"type": config.tag}), **fields, "future": [1]}
    if isinstance(value, tuple | list):
        return [grown(item) for item in value]
    return value


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_that_a_later_release_appends_are_ignored(name):
    family, value = SAMPLES[name]
    if isinstance(value, messages.Moved | messages.Failure) or type(value).__module__.endswith("frames"):
        assert len(grown(value)) == len(msgspec.structs.fields(type(value))) + 2
    data = encode(grown(value))
    if family.endswith("event"):
        data = encode([(5, grown(value))])
    elif family == "driver_header":
        data = len(data).to_bytes(4, "little") + data + b"body"
    assert decode(family, value, data) == value


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_with_a_default_that_an_earlier_release_does_not_send_take_it(name):
    family, value = SAMPLES[name]
    kind = type(value)
    if not kind.__struct_config__.array_like:
        required = {field.name: getattr(value, field.name) for field in msgspec.structs.fields(kind) if field.required}
        bare = kind(**required)
        fields = {name: value for name, value in msgspec.to_builtins(bare).items() if name in required}
        if isinstance(kind.__struct_config__.tag, str):
            fields["type"] = kind.__struct_config__.tag
        assert msgspec.convert(fields, kind) == bare
        return
    required = [getattr(value, field.name) for field in msgspec.structs.fields(kind) if field.required]
    tag = kind.__struct_config__.tag
    data = encode([*([] if tag is None else [tag]), *required])
    if family.endswith("event"):
        data = encode([(5, [tag, *required])])
    elif family == "driver_header":
        data = len(data).to_bytes(4, "little") + data + b"body"
    assert decode(family, value, data) == kind(*required)


if __name__ == "__main__":
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    known |= {name: frame(*sample).hex() for name, sample in SAMPLES.items() if name not in known}
    GOLDEN.write_text(json.dumps(known, indent=1) + "\n")
