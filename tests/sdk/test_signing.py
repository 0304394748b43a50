"""What is signed, and that nothing else passes for it."""

import datetime as dt
import hashlib
import os
import socket
import stat
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings

from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.signing import (
    File,
    PublicKey,
    Untrusted,
    check_signature,
    damage,
    decode_envelope,
    decode_statement,
    difference,
    digests_as,
    encode_envelope,
    encode_statement,
    format_public_key,
    make_keys,
    pae,
    parse_public_key,
    read_keys,
    read_public_key,
    read_tree,
    sign,
)
from byenatos_sdk.signing.tree import MAX_NAME, name_fault

DAY = dt.date(2030, 1, 1)
FILES = {"driver.py": File(b"code"), "plugin.toml": File(b"facts"), "vendor/it/__init__.py": File(b"")}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory):
    return make_keys(tmp_path_factory.mktemp("keys") / "acme.key", "acme", DAY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    for name, file in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(0o644)
    return folder


def statement(**changes) -> bytes:
    return encode_statement(FILES, **{"id": "acme", "version": "1.0", "publisher": "acme"} | changes)


# ---- the folder ------------------------------------------------------------------------------------------------


def test_a_folder_is_read_as_it_is(folder):
    assert read_tree(folder) == FILES


def test_permissions_that_matter_are_seen(folder):
    (folder / "driver.py").chmod(0o755)
    (folder / "plugin.toml").chmod(0o664)
    files = read_tree(folder)
    assert files["driver.py"] == File(b"code", executable=True)
    assert files["plugin.toml"] == File(b"facts", writable=True)


def test_the_caches_of_python_are_passed_over_and_bytecode_elsewhere_is_refused(folder):
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "driver.cpython-311.pyc").write_bytes(b"other code")
    assert read_tree(folder) == FILES
    (folder / "driver.pyc").write_bytes(b"other code")
    with pytest.raises(InvalidRequest, match=r"driver\.pyc: .* bytecode"):
        read_tree(folder)


def _link(folder: Path) -> None:
    (folder / "vendor" / "link.py").symlink_to("/etc/passwd")


def _link_to_a_folder(folder: Path) -> None:
    (folder / "vendor" / "link").symlink_to(folder)


def _cache_that_is_a_link(folder: Path) -> None:
    (folder / "__pycache__").symlink_to("/tmp")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "s"))


def _set_uid(folder: Path) -> None:
    (folder / "driver.py").chmod(0o4755)


def _no_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.py")).write_text("x")


def _backslash(folder: Path) -> None:
    (folder / "a\\b.py").write_text("x")


def _deep(folder: Path) -> None:
    (folder / "/".join("d" * 40)).mkdir(parents=True)


def _many(folder: Path) -> None:
    for number in range(2000):
        (folder / f"{number}.txt").touch()


def _large(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate((64 << 20) + 1)


def _large_together(folder: Path) -> None:
    for name in ("one", "two"):
        with (folder / name).open("wb") as file:
            file.truncate(40 << 20)


@pytest.mark.parametrize(
    ("deed", "named"),
    [
        (_link, r"vendor/link\.py: expected a plain file, found a link"),
        (_link_to_a_folder, "vendor/link: expected a plain file, found a link"),
        (_cache_that_is_a_link, "__pycache__: expected a plain file, found a link"),
        (_pipe, "pipe: expected a plain file, found a pipe"),
        (_socket, "s: expected a plain file, found a socket"),
        (_set_uid, r"driver\.py: expected no set-uid"),
        (_no_text, r"\\xff\.py: this name is refused: it is no UTF-8"),
        (_backslash, "this name is refused"),
        (_deep, "at most 32 folders"),
        (_many, "at most 2000 files"),
        (_large, "large: expected at most"),
        (_large_together, "two: expected at most 64 MiB in all files"),
    ],
)
def test_what_is_not_a_plain_small_file_is_refused_by_its_name(folder, deed, named):
    deed(folder)
    with pytest.raises(InvalidRequest, match=named):
        read_tree(folder)


def test_a_folder_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OSError, match="link"):
        read_tree(tmp_path / "link")


@given(st.text(max_size=40) | st.lists(st.sampled_from(["a", "..", ".", "", "b.py", "__pycache__"])).map("/".join))
def test_a_name_that_passes_leads_nowhere_else(name):
    if name_fault(name) is None:
        path = Path("/root/folder") / name
        assert os.path.normpath(path) == str(path)
        assert path.is_relative_to("/root/folder")
        assert len(name.encode()) <= MAX_NAME


# ---- statements ------------------------------------------------------------------------------------------------


def test_a_statement_says_what_was_read():
    found = decode_statement(statement())
    assert (found.predicate.id, found.predicate.version, found.predicate.publisher) == ("acme", "1.0", "acme")
    assert sorted(subject.name for subject in found.subject) == sorted(FILES)
    assert difference(found, FILES) is None


NAMES = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name_fault(name) is None),
    min_size=1, max_size=6, unique=True,
)  # fmt: skip


@given(NAMES, st.data())
def test_every_difference_is_found_and_named(names, data):
    files = {name: data.draw(st.builds(File, st.binary(max_size=20), st.booleans(), st.booleans())) for name in names}
    found = decode_statement(encode_statement(files, id="a", version="1", publisher=""))
    assert difference(found, files) is None
    assert damage(found, files) is None
    name = data.draw(st.sampled_from(names))
    other = data.draw(st.builds(File, st.binary(max_size=20), st.booleans(), st.booleans()))
    changed = {**files, name: other}
    worse = (other.data, other.executable) != (files[name].data, files[name].executable)
    worse = worse or other.writable > files[name].writable
    assert (difference(found, changed) is not None) == worse
    if worse:
        assert str(difference(found, changed)).startswith(f"{name}: ")
    assert (damage(found, changed) is not None) == (other.data != files[name].data)
    del changed[name]
    assert f"{name}: expected a file that is signed" in str(difference(found, changed))
    assert "expected only files that are signed" in str(difference(found, {**files, "extra": other, "more": other}))


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text(max_size=5) | st.integers(),
       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
       ).map(msgspec.json.encode))  # fmt: skip
@example(b"[" * 100_000)
def test_rubbish_is_no_statement_no_envelope_and_no_key(data):
    for parse in (decode_statement, decode_envelope, lambda one: parse_public_key(one, "it")):
        with pytest.raises((Untrusted, InvalidRequest)):
            parse(data)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1", "_type"),
        (("predicateType",), "https://slsa.dev/provenance/v1", "predicateType"),
        (("predicate", "id"), "../acme", r"predicate\.id"),
        (("predicate", "version"), "1 0", r"predicate\.version"),
        (("predicate", "publisher"), "Acme", r"predicate\.publisher"),
        (("predicate", "surprise"), 1, "surprise"),
        (("predicate", "executable"), ["no.py"], "permissions of files that are listed"),
        (("subject",), [], "expected 1 to 2000 files"),
        (("subject", 0, "name"), "../driver.py", "relative path"),
        (("subject", 0, "name"), "/driver.py", "relative path"),
        (("subject", 0, "name"), "plugin.sig", "without plugin.sig"),
        (("subject", 0, "name"), "plugin.toml", "each file once, in order"),
        (("subject", 0, "digest", "sha256"), "0" * 63, "SHA-256"),
        (("subject", 0, "digest", "blake2b"), "0" * 127, "BLAKE2b"),
    ],
)
def test_a_statement_that_is_not_as_it_must_be_is_refused_by_its_key(path, value, named):
    table = msgspec.json.decode(statement())
    place = table
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(Untrusted, match=named):
        decode_statement(msgspec.json.encode(table))


# ---- envelopes and signatures ----------------------------------------------------------------------------------


def test_what_is_signed_is_the_form_of_dsse():
    assert pae(b"hello") == b"DSSEv1 28 application/vnd.in-toto+json 5 hello"


def test_a_signature_is_good_for_what_was_signed_with_the_key_that_signed(keys, tmp_path):
    envelope = decode_envelope(sign(statement(), keys))
    assert envelope.payload == statement()
    assert envelope.key == keys.public.id
    check_signature(envelope, keys.public)
    other = make_keys(tmp_path / "other.key", "acme", DAY)
    with pytest.raises(Untrusted, match="expected a signature by the key"):
        check_signature(envelope, other.public)


def test_no_byte_of_an_envelope_can_be_changed(keys):
    data = sign(statement(), keys)
    for at in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            changed = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            with pytest.raises(Untrusted):
                _accept(changed, keys.public)


def _accept(data: bytes, key: PublicKey) -> None:
    """What somebody does who trusts one key."""
    envelope = decode_envelope(data)
    if envelope.key != key.id:
        raise Untrusted("an unknown key")
    check_signature(envelope, key)


@pytest.mark.parametrize("change", [lambda data: data + b"\n", lambda data: b" " + data, lambda data: data[:-1]])
def test_an_envelope_has_one_form(keys, change):
    with pytest.raises(Untrusted):
        decode_envelope(change(sign(statement(), keys)))


@given(st.binary(max_size=200), st.text(max_size=20), st.binary(min_size=64, max_size=64))
def test_an_envelope_is_read_as_it_was_written(payload, key, signature):
    envelope = decode_envelope(encode_envelope(payload, key, signature))
    assert (envelope.payload, envelope.key, envelope.signature) == (payload, key, signature)


# ---- keys ------------------------------------------------------------------------------------------------------


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True), st.binary(min_size=32, max_size=32), st.dates())
def test_a_public_key_is_read_as_it_was_written(publisher, raw, expires):
    key = PublicKey(publisher, raw, expires)
    assert parse_public_key(format_public_key(key).encode(), "it") == key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_public_key_is_refused_or_another_name_or_date_for_the_same_key(keys, data):
    text = bytearray(format_public_key(keys.public).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255))
    try:
        found = parse_public_key(bytes(text), "it")
    except InvalidRequest:
        return
    assert found.raw == keys.public.raw


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"acme"', '"Acme"', "publisher"),
        ("expires = 2030-01-01", "", "expires"),
        ("expires = 2030-01-01", 'expires = "soon"', "expires"),
        ("expires", "surprise = 1\nexpires", "surprise"),
        ("\nid = ", '\nid = "0000000000000000"\n#', "id: expected"),
    ],
)
def test_a_key_file_that_is_not_as_it_must_be_is_refused_by_its_key(keys, old, new, named):
    with pytest.raises(InvalidRequest, match=named):
        parse_public_key(format_public_key(keys.public).replace(old, new).encode(), "acme.pub")


def test_keys_are_written_for_their_owner_alone_and_never_over_others(tmp_path):
    made = make_keys(tmp_path / "acme.key", "acme", DAY)
    assert stat.S_IMODE((tmp_path / "acme.key").stat().st_mode) == 0o600
    assert read_public_key(tmp_path / "acme.pub") == made.public
    assert read_keys(tmp_path / "acme.key").public == made.public
    with pytest.raises(InvalidRequest, match="there is a key already"):
        make_keys(tmp_path / "acme.key", "acme", DAY)


def _readable(path: Path) -> None:
    path.chmod(0o640)


def _other_half(path: Path) -> None:
    make_keys(path.with_name("other.key"), "acme", DAY)
    path.with_name("other.key").replace(path)


def _rubbish(path: Path) -> None:
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("deed", [_readable, _other_half, _rubbish, _gone])
def test_a_private_key_that_is_not_as_it_must_be_is_refused_and_not_shown(tmp_path, deed):
    path = tmp_path / "acme.key"
    make_keys(path, "acme", DAY)
    secret = path.read_text().splitlines()[1]
    deed(path)
    with pytest.raises(ByenatosError, match=r"acme\.key: ") as caught:
        read_keys(path)
    assert secret not in caught.value.message


def test_the_digests_of_others_are_those_that_their_statements_have():
    files = {**FILES, "run.sh": File(b"#!/bin/sh", executable=True)}
    bare = {name: File(file.data) for name, file in files.items()}
    statement = decode_statement(encode_statement(files, id="acme", version="1", publisher="acme"))
    expected = {
        hashlib.sha256(encode_statement(one, id="acme", version="1", publisher=publisher)).hexdigest()
        for one in (files, bare)
        for publisher in ("", "acme", "operator")
    }
    assert digests_as(statement, ("", "acme", "operator")) == expected
    assert len(expected) == 6
