"""Names in a manifest, which commands and logs show."""

import json

import pytest

from byenatos_sdk.manifest import LONGEST_NAME, ManifestError, parse_manifest


def manifest(version="1", publisher="acme", model="m"):
    plugin = (
        f'[plugin]\nid = "acme"\nversion = {json.dumps(version)}\npublisher = {json.dumps(publisher)}\nentry = "a:B"\n'
    )
    return f"{plugin}[[models]]\nid = {json.dumps(model)}\n".encode()


@pytest.mark.parametrize("key", ["version", "publisher", "model"])
@pytest.mark.parametrize("name", ["1\n2026-01-01 INFO", "1\x1b[2J", "1\u202e2", "1\x9b2J", "1" * (LONGEST_NAME + 1)])
def test_a_name_that_would_look_like_something_else_is_refused(tmp_path, key, name):
    with pytest.raises(ManifestError, match="all of which can be seen") as refused:
        parse_manifest(manifest(**{key: name}), tmp_path / "acme")
    assert refused.value.message.isprintable()


def test_names_in_any_script_are_names(tmp_path):
    found = parse_manifest(manifest("1.0 β", "Müller & Söhne", "通义千问"), tmp_path / "acme")
    assert (found.plugin.version, found.models[0].id) == ("1.0 β", "通义千问")


def test_a_number_of_more_digits_than_python_reads_is_refused_like_any_other_mistake(tmp_path):
    with pytest.raises(ManifestError, match="not valid TOML"):
        parse_manifest(manifest() + b"size_bytes = " + b"9" * 5000, tmp_path / "acme")


@pytest.mark.parametrize("part", [b"a", b'"="', b"' '"])
def test_a_key_of_very_many_parts_is_refused_before_it_is_read(tmp_path, part):
    with pytest.raises(ManifestError, match="line 9: expected at most 500 dots in a line, found 9999"):
        parse_manifest(manifest() + b"\n" + b".".join([part] * 10_000) + b" = 1", tmp_path / "acme")


def test_a_folder_whose_name_no_id_can_have_is_to_be_renamed_and_not_the_plugin(tmp_path):
    with pytest.raises(ManifestError, match=r"expected a folder called 'acme', as its .*; rename it"):
        parse_manifest(manifest(), tmp_path / "acme copy")
    with pytest.raises(ManifestError, match="expected 'other', the folder's name, found 'acme'"):
        parse_manifest(manifest(), tmp_path / "other")
