r"""Whether a format of a third party's keeps ``formats.contract``, whatever it is sent.

::

    check_format(quill, answers=[b'{"say": "Hello", "over": true}'], streams=[b'{"say": "Hi"}\n{"over": true}\n'])

``answers`` and ``streams`` are bodies as the vendor sent them, of answers that are whole; the more, the better.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.contract import Format
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import Answer
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, RateLimited
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceRequest,
    InferenceResponse,
    Message,
    Sampling,
    Text,
    TextDelta,
    ToolCall,
    Usage,
    assistant,
    system,
    user,
)

__all__ = ["check_format"]

REPLY = Reply("answer-1", "model-1", 1)
RUBBISH = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"{}",
    b'{"error": "x"}',
    b"<html>502</html>",
    b"\xff\xfe",
    b"[" * 5000,
)
REQUESTS = (
    InferenceRequest((user("Hello."),), model="m"),
    InferenceRequest((system("Be brief."), user("One."), assistant("Two."), user("Three.")), model="m"),
    InferenceRequest((user("Hëllo \u2028 \U0001f600"),), model="m", sampling=Sampling(temperature=0.5, max_tokens=64)),
)
ANSWER = InferenceResponse(Message("assistant", (Text("Hëllo \u2028 \U0001f600"),)), "stop", Usage(3, 5), "model-1")
DELTAS: tuple[Delta, ...] = (TextDelta("Hëllo "), TextDelta("\u2028 \U0001f600"), Finish("stop", Usage(3, 5)))


def check_format(format: Any, *, answers: Iterable[bytes] = (), streams: Iterable[bytes] = ()) -> None:
    """Hold ``format``, a module or an object, against its contract.

    Raises:
        AssertionError: it does otherwise; the message tells what was expected and what was found.
    """
    try:
        CompatibilityLayer().register(format)
    except InvalidRequest as error:
        raise AssertionError(error.message) from None
    kept: Format = format
    for request in REQUESTS:
        _comes_back(kept, request)
    for rubbish in RUBBISH:
        _refuses(kept, rubbish)
    written = kept.encode_response(ANSWER, REPLY).body
    for body in (written, *answers):
        _answers(kept, body)
    encoder = kept.stream_encoder(REPLY)
    stream = b"".join(encoder.encode([delta]) for delta in DELTAS)
    assert encoder.content_type, "stream_encoder: expected a content_type, found none"
    _reads_well(kept, stream, "".join(one.text for one in DELTAS if isinstance(one, TextDelta)))
    for body in streams:
        _reads_well(kept, body)
    _tells_errors(kept)


def _comes_back(format: Format, request: InferenceRequest) -> None:
    """A request that it can say is read back as it was meant."""
    encoded = format.encode_request(request, stream=True)
    found = format.decode_request(encoded.wire)
    assert found.stream, (
        f"decode_request: expected that the answer is to come in pieces, found {encoded.wire.body!r:.200}"
    )
    if not encoded.losses:
        said = [(one.role, one.text) for one in request.messages]
        read = [(one.role, one.text) for one in found.request.messages]
        assert read == said, f"decode_request: expected {said}, as encode_request was given, found {read}"
    lost = {loss.parameter.removeprefix("sampling.") for loss in encoded.losses}
    for name in set(format.CAPABILITIES.parameters) - lost:
        wanted, read_ = getattr(request.sampling, name), getattr(found.request.sampling, name)
        assert wanted is None or wanted == read_, f"decode_request: expected {name} {wanted}, found {read_}"


def _refuses(format: Format, rubbish: bytes) -> None:
    """Nothing but an error of the one taxonomy is raised by what is no request and no answer."""
    reply = WireResponse(rubbish)
    _raises_ours("decode_request", lambda: format.decode_request(WireRequest("/", rubbish)), rubbish)
    _raises_ours("decode_response", lambda: format.decode_response(reply), rubbish)
    for status in (400, 401, 404, 413, 429, 500, 503):
        try:
            error = format.decode_error(WireResponse(rubbish, status))
        except Exception as found:
            raise AssertionError(f"decode_error: expected to read {rubbish!r:.40}, found {found!r:.200}") from found
        assert isinstance(error, ByenatosError), f"decode_error: expected a ByenatosError, found {error!r:.200}"
    deltas = _decoded(format, [rubbish])
    assert isinstance(deltas[-1], Failure), (
        f"stream_decoder: expected {rubbish!r:.40} to end in a Failure, found {deltas[-1]}"
    )


def _raises_ours(name: str, read: Any, rubbish: bytes) -> None:
    try:
        read()
    except ByenatosError:
        return
    except Exception as found:
        raise AssertionError(
            f"{name}: expected an error of byenatos_sdk.protocol.errors for {rubbish!r:.40}, found {found!r:.200}"
        ) from found


def _answers(format: Format, body: bytes) -> None:
    """A whole answer is read, and what is written of it is read as the same."""
    found = format.decode_response(WireResponse(body))
    again = format.decode_response(format.encode_response(found, REPLY))
    for name in ("text", "reason"):
        one, other = getattr(found, name), getattr(again, name)
        assert one == other, (
            f"encode_response: expected {name} {one!r:.200}, as decode_response gave, found {other!r:.200}"
        )
    calls = [
        [(part.name, part.arguments) for part in one.message.parts if isinstance(part, ToolCall)]
        for one in (found, again)
    ]
    assert calls[0] == calls[1], f"encode_response: expected the calls {calls[0]}, found {calls[1]}"


def _reads_well(format: Format, raw: bytes, text: str | None = None) -> None:
    """A stream means the same however it is cut, and one that breaks off never ends well."""
    whole = _decoded(format, [raw])
    assert isinstance(whole[-1], Finish), (
        f"stream_decoder: expected a whole stream to end in a Finish, found {whole[-1]}"
    )
    if text is not None:
        assert _text(whole) == text, (
            f"stream_decoder: expected the text {text!r} that was written, found {_text(whole)!r}"
        )
    for size in (1, 7):
        cut = _decoded(format, [raw[at : at + size] for at in range(0, len(raw), size)])
        assert (_text(cut), cut[-1]) == (_text(whole), whole[-1]), (
            f"stream_decoder: expected {_text(whole)!r} in {size}-byte pieces too, found {_text(cut)!r} and {cut[-1]}"
        )
    for at in range(len(raw)):
        torn = _decoded(format, [raw[:at]])
        if isinstance(torn[-1], Finish):
            assert _text(torn) == _text(whole), (
                f"stream_decoder: expected a Failure for a stream that breaks off after {at} bytes, found {torn[-1]}"
            )


def _decoded(format: Format, pieces: Sequence[bytes]) -> list[Delta]:
    """Return what a stream in these pieces comes to: one terminal, its last delta."""
    decoder = format.stream_decoder()
    try:
        deltas = [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.end()
        after = decoder.feed(b"{}\n\n") + decoder.end()
    except Exception as found:
        raise AssertionError(f"stream_decoder: expected it to raise nothing, found {found!r:.200}") from found
    ends = [delta for delta in deltas if isinstance(delta, Finish | Failure)]
    assert len(ends) == 1 and ends == deltas[-1:], (  # noqa: PT018 - one thing
        f"stream_decoder: expected one Finish or Failure, the last of all, found {deltas[-3:]}"
    )
    assert not after, f"stream_decoder: expected nothing after the end, found {after}"
    return deltas


def _tells_errors(format: Format) -> None:
    """An error that it writes is one for its clients too, and so is the end of a stream that failed."""
    written = format.encode_error(RateLimited("slowly"))
    found = format.decode_error(written)
    assert "slowly" in found.message, f"decode_error: expected the vendor's own text 'slowly', found {found.message!r}"
    encoder = format.stream_encoder(REPLY)
    raw = encoder.encode([TextDelta("half")]) + encoder.encode([Failure("overloaded", "later", partial=True)])
    last = _decoded(format, [raw])[-1]
    assert isinstance(last, Failure), f"stream_encoder: expected a Failure to be read as one, found {last}"


def _text(deltas: Sequence[Delta]) -> str:
    answer = Answer()
    for delta in deltas:
        if not isinstance(delta, Failure):
            answer.add(delta)
    return answer.text
