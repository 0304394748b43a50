import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol import control, frames, messages
from byenatos_sdk.protocol.frames import encode

LITTLE = 3  # items in a collection: depth finds more than width

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=LITTLE) | st.dictionaries(st.text(), inner, max_size=LITTLE),
    max_leaves=5,
)


def values(info):
    """Every value of a msgspec type."""
    match info:
        case msgspec.inspect.StructType(cls, fields):
            return st.builds(cls, **{field.name: values(field.type) for field in fields})
        case msgspec.inspect.UnionType(types):
            return st.one_of(*map(values, types))
        case msgspec.inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=LITTLE).map(tuple)
        case msgspec.inspect.TupleType(items):
            return st.tuples(*map(values, items))
        case msgspec.inspect.FloatType(ge=least, le=most) if most is not None:
            return st.floats(least, most)
        case msgspec.inspect.ListType(item_type=item):
            return st.lists(values(item), max_size=LITTLE)
        case msgspec.inspect.FrozenSetType(item_type=item):
            return st.frozensets(values(item), max_size=LITTLE)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(values(key), values(value), max_size=LITTLE)
        case msgspec.inspect.LiteralType(choices):
            return st.sampled_from(choices)
        case msgspec.inspect.EnumType(cls):
            return st.sampled_from(cls)
        case msgspec.inspect.AnyType():
            return JSON
    return {
        msgspec.inspect.NoneType: st.none(),
        msgspec.inspect.BoolType: st.booleans(),
        msgspec.inspect.IntType: st.integers(-(2**63), 2**64 - 1),
        msgspec.inspect.FloatType: st.floats(allow_nan=False),
        msgspec.inspect.StrType: st.text(),
        msgspec.inspect.BytesType: st.binary(),
    }[type(info)]


def of(kind):
    return values(msgspec.inspect.type_info(kind))


IDS = st.integers(0, 2**53 - 1)
WHOLE = [
    messages.InferenceRequest,
    messages.InferenceResponse,
    messages.ModelHealthStatus,
    messages.SwapRequest,
    control.KernelStatus,
    control.SessionTranscript,
    control.Event,
    control.LoadOrder,
    control.ProbeResult,
    *dict.fromkeys(parameters for parameters, _ in control.METHODS.values()),
]


@pytest.mark.parametrize("kind", WHOLE, ids=str)
def test_messages_come_back_as_they_were(kind):
    @settings(max_examples=30, deadline=None)
    @given(of(kind))
    def check(value):
        assert msgspec.msgpack.decode(encode(value), type=kind) == value

    check()


@settings(max_examples=50, deadline=None)
@given(of(frames.ClientHeader))
def test_client_headers_come_back_as_they_were(header):
    assert frames.decode_client_header(encode(header)) == header


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(IDS, of(frames.ClientEvent)), max_size=4))
def test_client_events_come_back_as_they_were_and_in_order(events):
    assert frames.decode_client_events(encode(events)) == events


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(IDS, of(frames.DriverEvent)), max_size=4))
def test_driver_events_come_back_as_they_were_and_in_order(events):
    assert frames.decode_driver_events(encode(events)) == events


@settings(max_examples=50, deadline=None)
@given(of(frames.DriverHeader), st.binary())
def test_driver_frames_come_apart_as_they_were_joined(header, body):
    assert frames.split_driver_frame(frames.join_driver_frame(header, body)) == (header, body)
    assert frames.split_driver_frame(memoryview(frames.join_driver_frame(header, memoryview(body)))) == (header, body)


DECODERS = [
    frames.decode_client_header,
    frames.decode_client_events,
    frames.decode_driver_events,
    frames.decode_request,
    frames.split_driver_frame,
]
MEANT = st.one_of(
    of(frames.ClientHeader).map(encode),
    st.lists(st.tuples(IDS, of(frames.ClientEvent | frames.DriverEvent)), max_size=3).map(encode),
    of(messages.InferenceRequest).map(encode),
    st.builds(frames.join_driver_frame, of(frames.DriverHeader), st.binary(max_size=8)),
)


@settings(max_examples=50, deadline=None)
@given(st.binary())
@example(b"\xdd\xff\xff\xff\xff")  # an array of four thousand million items
@example(b"\xff\xff\xff\xff\x91\x05")
@example(encode([(1, messages.TextDelta("ab"))]).replace(b"ab", b"\xff\xfe"))
def test_arbitrary_bytes_raise_value_errors_and_nothing_else(data):
    for decode in DECODERS:
        try:
            decode(data)
        except ValueError:
            continue


@settings(max_examples=50, deadline=None)
@given(MEANT, st.data())
def test_damaged_frames_raise_value_errors_and_nothing_else(frame, data):
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    for decode in DECODERS:
        try:
            decode(bytes(damaged))
        except ValueError:
            continue


DEEP = b"\x91" * 100_000


@pytest.mark.parametrize(
    ("decode", "frame"),
    [
        (frames.decode_client_header, b"\x93\x02\x05" + DEEP),
        (frames.decode_client_events, b"\x91\x92\x05\x93\x00\xa1x" + DEEP),
        (frames.decode_driver_events, b"\x91\x92\x05\x96\x01\xa1x\xa1y\xa0\xc2" + DEEP),
        (frames.decode_request, b"\x82\xa8messages\x90\xa5extra\x81\xa1a" + DEEP),
        (frames.split_driver_frame, (len(DEEP) + 3).to_bytes(4, "little") + b"\x93\x03\x05" + DEEP),
    ],
)
def test_endless_nesting_raises_recursion_error_which_whoever_reads_foreign_bytes_must_catch_too(decode, frame):
    with pytest.raises(RecursionError):
        decode(frame)


def test_an_unknown_tag_is_refused_and_named():
    with pytest.raises(msgspec.ValidationError, match="99"):
        frames.decode_client_header(b"\x91\x63")
    with pytest.raises(msgspec.ValidationError, match="99"):
        frames.decode_client_events(encode([(1, [99])]))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\x01\x00\x00", "expected at least 4 bytes of header length, found 3"),
        (b"\x05\x00\x00\x00\x91", "expected a header that ends at byte 9, found a frame of 5 bytes"),
    ],
)
def test_a_driver_frame_that_is_too_short_is_refused_with_numbers(frame, message):
    with pytest.raises(ValueError, match=message):
        frames.split_driver_frame(frame)


def test_a_batched_delta_costs_ten_bytes():
    batch = encode([(number, messages.TextDelta(" word")) for number in range(64)])
    assert len(batch) <= 3 + 64 * 10
