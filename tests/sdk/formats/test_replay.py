"""The scripted server and the cases' reader are what other tests stand on."""

import httpx
import pytest
from tests.sdk.formats import cases
from tests.sdk.formats.replay import Answer

VENDORS = sorted(path.stem for path in cases._FOLDER.glob("*.json"))


def test_an_answer_comes_as_it_was_queued_and_the_request_is_kept(replay):
    replay.answer(Answer(b"{}", 418, {"x-a": "b"}))

    answer = httpx.post(replay.url + "/v1/x?a=1", json={"a": 1}, headers={"X-Key": "k"})

    assert (answer.status_code, answer.headers["x-a"], answer.content) == (418, "b", b"{}")
    (request,) = replay.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1/x?a=1", b'{"a":1}')
    assert request.headers["x-key"] == "k"


def test_a_stream_that_is_aborted_breaks_off_for_its_client(replay):
    replay.stream(b"data: 1\n\n", b"data: 2\n\n", abort=True)

    read = bytearray()
    with httpx.stream("POST", replay.url) as answer, pytest.raises(httpx.RemoteProtocolError):
        _read(answer, read)

    assert read == b"data: 1\n\ndata: 2\n\n"


def _read(answer, into):
    for piece in answer.iter_raw():
        into += piece


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_case_has_a_wire_form_and_a_meaning_that_can_be_read(vendor):
    for case in cases.load(vendor):
        if case.kind == "request":
            assert cases.wire_request(case).path.startswith("/")
            assert cases.request_of(case.meaning)
        elif case.kind == "stream":
            assert b"".join(cases.pieces(case)).decode() == case.wire["raw"]
        elif "finish" in case.meaning and case.meaning["finish"] != "error":
            assert cases.response_of(case.meaning)
