import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.formats.media import data_url, from_base64, media_type_of, parse_data_url, to_base64
from byenatos_sdk.protocol.errors import InvalidRequest


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_base64_is_read_in_both_alphabets_with_and_without_padding(data):
    for text in (to_base64(data), base64.urlsafe_b64encode(data).decode()):
        assert from_base64(text, "x") == data
        assert from_base64(text.rstrip("="), "x") == data
        assert from_base64("\n".join(text), "x") == data


@given(st.binary(max_size=40), st.sampled_from(["image/png", "image/svg+xml", "audio/x-wav"]))
@settings(deadline=None)
def test_a_data_address_is_read_as_it_was_written(data, media_type):
    assert parse_data_url(data_url(media_type, data), "x") == (media_type, data)


def test_parameters_of_a_media_type_are_passed_over_and_a_missing_type_is_seen_in_the_bytes():
    assert parse_data_url("data:image/jpeg;charset=utf-8;base64,/9j/", "x") == ("image/jpeg", b"\xff\xd8\xff")
    assert parse_data_url("data:;base64,/9j/", "x") == ("image/jpeg", b"\xff\xd8\xff")


def test_another_address_is_none():
    assert parse_data_url("https://example.com/a.png", "x") is None


@pytest.mark.parametrize("url", ["data:", "data:image/png,abc", "data:image/png;base64", "data:image/png;base64,ä"])
def test_a_broken_data_address_is_refused_with_its_place(url):
    with pytest.raises(InvalidRequest, match=r"^messages\[0\]: expected"):
        parse_data_url(url, "messages[0]")


@pytest.mark.parametrize(
    ("start", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt", "audio/wav"),
        (b"%PDF-1.7", "application/pdf"),
        (b"?", "image/png"),
    ],
)
def test_what_bytes_are_is_seen_by_how_they_begin(start, media_type):
    assert media_type_of(start + b"rest") == media_type
