"""What holds for the cases of every vendor with an API of its own, whatever that API looks like."""

import pytest
from tests.sdk.formats.cases import (
    Case,
    assert_deltas,
    assert_error,
    load_all,
    pieces,
    wire_response,
)
from tests.sdk.formats.chat_dialects import read_answer
from tests.sdk.formats.laws import decoded, same_however_cut

from byenatos_sdk.formats import anthropic_messages, dashscope, gemini, huggingface_tgi, hunyuan, ollama
from byenatos_sdk.formats.contract import Format
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Failure

VENDORS: dict[str, Format] = {
    "anthropic": anthropic_messages,
    "dashscope": dashscope,
    "gemini": gemini,
    "huggingface": huggingface_tgi,
    "ollama": ollama,
    "tencent": hunyuan,
}


def _is_own(case: Case) -> bool:
    """Whether a case is of the API itself: not a list of models, nor of the vendor's compatible mode."""
    return "models" not in case.meaning and "/compat-stream" not in case.id


def each(*kinds: str, of: tuple[str, ...] = tuple(VENDORS), ending: bool = False) -> pytest.MarkDecorator:
    """Run a test for each case of these kinds of each vendor; ``ending``: of those that come to a good end."""
    found = [
        pytest.param(VENDORS[vendor], case, id=str(case))
        for vendor in of
        for case in load_all(vendor, *kinds)
        if (not ending or case.meaning.get("finish") not in {None, "error"}) and _is_own(case)
    ]
    return pytest.mark.parametrize(("format", "case"), found)


@each("response", ending=True)
def test_a_response_is_read_as_it_was_meant(format: Format, case: Case) -> None:
    read_answer(format, wire_response(case), case.meaning)


@each("stream")
def test_a_stream_is_read_as_it_was_meant(format: Format, case: Case) -> None:
    deltas = decoded(format, pieces(case))
    assert_deltas(deltas, case.meaning)
    if isinstance(deltas[-1], Failure):
        assert deltas[-1].partial == bool(case.meaning.get("text"))


@each("stream")
def test_a_stream_reads_the_same_however_it_is_cut(format: Format, case: Case) -> None:
    same_however_cut(format, case.wire["raw"].encode(), [])


@each("stream", of=("dashscope", "ollama", "tencent"), ending=True)
def test_a_stream_that_is_cut_off_is_interrupted_wherever_it_is_cut(format: Format, case: Case) -> None:
    raw = b"".join(pieces(case)).rstrip()
    for at in range(0, len(raw), 3):
        terminal = decoded(format, [raw[:at]])[-1]
        assert isinstance(terminal, Failure), at
        assert terminal.code == "stream_interrupted", at


@each("error")
def test_an_error_is_read_as_it_was_meant(format: Format, case: Case) -> None:
    assert_error(format.decode_error(wire_response(case)), case.meaning)


@each("error")
def test_an_error_keeps_its_kind_on_its_way_to_a_client_and_back(format: Format, case: Case) -> None:
    error = format.decode_error(wire_response(case))
    again = format.decode_error(format.encode_error(error))
    assert again.code == error.code
    assert again.message.endswith(error.message)
    for wire in (wire_response(case), format.encode_error(error)):
        with pytest.raises(ByenatosError) as caught:
            format.decode_response(wire)
        assert caught.value.code == error.code
