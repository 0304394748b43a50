"""Large parts of a request that are put into base64 as it is sent: the body is the same, byte for byte."""

import pytest

from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.media import to_base64
from byenatos_sdk.formats.uploads import LARGE, PIECE, held_back
from byenatos_sdk.protocol.messages import Audio, File, Image, InferenceRequest, Message, Text

PIXELS = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4096
layer = CompatibilityLayer()


def parts_for(row):
    parts = [Text('What is it? "byenatos-held-00000000"')]
    if "data" in row.images:
        parts += [Image("image/png", PIXELS), Image("image/png", PIXELS[:-1]), Image("image/png", PIXELS[:99])]
    if row.audio:
        parts.append(Audio(b"RIFF\x24\0\0\0WAVEfmt " + PIXELS, "audio/wav"))
    if "data" in row.files:
        parts.append(File("a.pdf", "application/pdf", b"%PDF-1.4" + PIXELS))
    return tuple(parts)


@pytest.mark.parametrize("name", MATRIX)
def test_the_body_in_pieces_is_the_body(name):
    request = InferenceRequest((Message("user", parts_for(MATRIX[name])),), model="m")
    whole = layer.format(name).encode_request(request).wire.body
    with held_back() as held:
        written = layer.format(name).encode_request(request).wire.body

    body = held.body(written)

    assert len(written) < 16 << 10
    assert len(body) == len(whole)
    pieces = list(body.pieces())
    assert max(map(len, pieces)) <= PIECE
    assert b"".join(pieces) == whole
    assert b"".join(body.pieces()) == whole, "another try sends it again"


def test_what_is_small_is_written_at_once_and_nothing_is_held_back_otherwise():
    with held_back() as held:
        assert to_base64(b"abc") == "YWJj"
        assert held.body(b"{}") == b"{}"
    assert len(to_base64(bytes(LARGE))) >= LARGE
