import msgspec
import pytest

from byenatos_sdk.formats import wire
from byenatos_sdk.formats.wire import read_as, read_json, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, RequestTooLarge


class _Body(msgspec.Struct):
    x: int = 0
    y: list[int] = []


BODY, BODIES = msgspec.json.Decoder(_Body), msgspec.json.Decoder(list[_Body])


@pytest.mark.parametrize(
    ("decoder", "body", "what", "message"),
    [
        (BODY, b'{"x":"a"}', "body", "x: expected `int`, found `str`"),
        (BODY, b'{"y":[1,"a"]}', "body", "y[1]: expected `int`, found `str`"),
        (BODY, b'{"x":"a"}', "tools[0]", "tools[0].x: expected `int`, found `str`"),
        (BODY, b"[]", "body", "body: expected `object`, found `array`"),
        (BODIES, b'[{"x":"a"}]', "answer", "answer[0].x: expected `int`, found `str`"),
        (BODY, b"{", "line", "line: expected JSON, found: Input data was truncated"),
    ],
)
def test_what_is_wrong_in_json_is_named_by_its_place(decoder, body, what, message):
    with pytest.raises(InvalidRequest) as caught:
        read_as(decoder, body, what)
    assert caught.value.message == message


def test_unknown_fields_are_ignored():
    assert read_as(BODY, b'{"z": 1, "x": 2}').x == 2


@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_what_is_no_json_is_refused(body):
    with pytest.raises(InvalidRequest):
        read_json(body)


def test_only_an_object_is_an_object():
    assert read_object(b'{"a": null}') == {"a": None}
    with pytest.raises(InvalidRequest, match="expected a JSON object, found list"):
        read_object(b"[]")


@pytest.mark.parametrize("read", [read_json, read_object, lambda body: read_as(BODY, body)])
def test_a_body_that_is_too_large_is_refused_unread(read, monkeypatch):
    monkeypatch.setattr(wire, "MAX_BODY", 10)
    with pytest.raises(RequestTooLarge, match="at most 10 bytes, found 11"):
        read(b'{"x": 12345')
