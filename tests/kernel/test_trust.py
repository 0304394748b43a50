"""Whom the operator trusts, and what becomes of a folder that somebody signed."""

import datetime as dt
import shutil
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from byenatos_kernel.operator_key import initialise, sign_folder, sign_for_home
from byenatos_kernel.trust import DOWNGRADES, REVOKED, Downgrades, Revoked, read_trust, write_list
from byenatos_kernel.verdicts import Verdict
from byenatos_kernel.verification import is_older, read_policy, verify
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.signing import format_public_key, make_keys

LATER = dt.date(2090, 1, 1)
MANIFEST = '[plugin]\nid = "acme"\nversion = "{version}"\nentry = "driver:Acme"\n'


class Bench:
    """A home that trusts a publisher, and a folder that he signed."""

    def __init__(self, home: Home, keys: Path) -> None:
        self.home = home
        self.home.create()
        self.keys = make_keys(keys / "acme.key", "acme", LATER)
        self.trust()
        self.folder = home.plugins / "acme"
        (self.folder / "vendor" / "it").mkdir(parents=True)
        (self.folder / "driver.py").write_text("class Acme: ...\n")
        (self.folder / "vendor" / "it" / "__init__.py").write_text("version = 1\n")
        self.write("1.5")

    def trust(self) -> None:
        (self.home.trust / "acme.pub").write_text(format_public_key(self.keys.public))

    def write(self, version: str) -> None:
        (self.folder / "plugin.toml").write_text(MANIFEST.format(version=version))
        self.sign()

    def sign(self) -> None:
        (self.folder / "plugin.sig").write_bytes(sign_folder(self.folder, self.keys)[1])

    def judge(self, *, highest: str | None = None, **changes) -> Verdict:
        policy = read_policy(self.home, lambda _id, _publisher: highest)
        return verify(self.folder, msgspec.structs.replace(policy, **changes)).verdict


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Home(tmp_path / "home"), tmp_path)


def test_what_a_trusted_publisher_signed_may_run(bench):
    verdict = bench.judge()
    assert (verdict.reason, verdict.id, verdict.version) == ("", "acme", "1.5")
    assert (verdict.publisher, verdict.key, verdict.unsigned) == ("acme", bench.keys.public.id, "")
    assert len(verdict.digest) == 64


def test_every_changed_byte_of_every_file_is_refused_naming_the_file(bench):
    good = bench.judge()
    for path in sorted(path for path in bench.folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        name = path.relative_to(bench.folder).as_posix()
        step = max(1, len(data) // 40)
        for at in {*range(0, len(data), step), len(data) - 1}:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            verdict = bench.judge()
            assert verdict.reason, (name, at)
            assert verdict.reason.startswith(f"{name}: ") or f"/{name}:" in verdict.reason, (name, at, verdict.reason)
        path.write_bytes(data)
    assert bench.judge() == good


def _extra(bench: Bench) -> None:
    (bench.folder / "json.py").write_text("evil")


def _extra_hidden(bench: Bench) -> None:
    (bench.folder / "vendor" / ".hidden").touch()


def _missing(bench: Bench) -> None:
    (bench.folder / "driver.py").unlink()


def _link(bench: Bench) -> None:
    (bench.folder / "driver.py").rename(bench.home.path / "driver.py")
    (bench.folder / "driver.py").symlink_to(bench.home.path / "driver.py")


def _executable(bench: Bench) -> None:
    (bench.folder / "driver.py").chmod(0o755)


def _writable(bench: Bench) -> None:
    (bench.folder / "driver.py").chmod(0o666)


def _set_uid(bench: Bench) -> None:
    (bench.folder / "driver.py").chmod(0o4644)


def _swapped(bench: Bench) -> None:
    other = bench.home.path / "other" / "acme"
    shutil.copytree(bench.folder, other)
    (other / "driver.py").write_text("class Acme: 'another'\n")
    (bench.folder / "plugin.sig").write_bytes(sign_folder(other, bench.keys)[1])


def _signature_of_another(bench: Bench) -> None:
    other = bench.home.path / "other" / "emca"
    other.mkdir(parents=True)
    (other / "plugin.toml").write_text(MANIFEST.format(version="1").replace("acme", "emca"))
    (bench.folder / "plugin.sig").write_bytes(sign_folder(other, bench.keys)[1])


def _renamed(bench: Bench) -> None:
    bench.folder = bench.folder.rename(bench.folder.with_name("emca"))


def _unknown(bench: Bench) -> None:
    (bench.home.trust / "acme.pub").unlink()


def _expired(bench: Bench) -> None:
    expired = msgspec.structs.replace(bench.keys.public, expires=dt.date(2020, 1, 1))
    (bench.home.trust / "acme.pub").write_text(format_public_key(expired))


def _revoked_key(bench: Bench) -> None:
    write_list(bench.home.trust / REVOKED, Revoked(keys={bench.keys.public.id: "it was stolen"}))


def _revoked_state(bench: Bench) -> None:
    write_list(bench.home.trust / REVOKED, Revoked(plugins={bench.judge().digest: "it deletes files"}))


def _other_name(bench: Bench) -> None:
    other = msgspec.structs.replace(bench.keys.public, publisher="openai")
    (bench.home.trust / "acme.pub").write_text(format_public_key(other))


def _no_signature(bench: Bench) -> None:
    (bench.folder / "plugin.sig").unlink()


@pytest.mark.parametrize(
    ("deed", "named"),
    [
        (_extra, "json.py: expected only files that are signed"),
        (_extra_hidden, "vendor/.hidden: expected only files that are signed"),
        (_missing, "driver.py: expected a file that is signed, found none"),
        (_link, "driver.py: expected a plain file, found a link"),
        (_executable, "driver.py: expected a file that is not executable"),
        (_writable, "driver.py: expected a file that only its owner may write"),
        (_set_uid, "driver.py: expected no set-uid"),
        (_swapped, "driver.py: expected the content that is signed"),
        (_signature_of_another, "plugin.sig: expected a signature of acme, found one of 'emca'"),
        (_renamed, "plugin.toml: plugin.id: expected 'emca', the folder's name, found 'acme'"),
        (_unknown, "which is unknown here; if you trust its publisher: byenatos driver trust"),
        (_expired, "of acme, which expired on 2020-01-01"),
        (_revoked_key, "which is revoked: it was stolen"),
        (_revoked_state, "is revoked: it deletes files"),
        (_other_name, "publisher: expected openai, whose key signed it, found 'acme'"),
        (_no_signature, "nobody signed it; look at what it does, then sign it yourself (byenatos driver sign acme)"),
    ],
)
def test_tampering_is_refused_naming_the_file_and_the_reason(bench, deed, named):
    deed(bench)
    assert named in bench.judge().reason


@pytest.mark.parametrize("text", ["[keys", "x = " + "9" * 5000], ids=["half", "a number that is too long"])
def test_a_list_that_cannot_be_read_stops_every_verification(bench, text):
    (bench.home.trust / REVOKED).write_text(text)
    with pytest.raises(InvalidRequest, match=r"revoked\.toml: .*; correct it"):
        bench.judge()


def test_a_key_that_cannot_be_read_or_that_others_may_write_is_left_out_and_noted(bench):
    (bench.home.trust / "broken.pub").write_text("publisher = ")
    (bench.home.trust / "acme.pub").chmod(0o646)
    trust = read_trust([bench.home.trust])
    assert not trust.keys
    assert "only its owner" in trust.notes[0]
    assert "broken.pub: not valid TOML" in trust.notes[1]


# ---- versions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [("1.9", "1.10", True), ("2.0rc1", "2.0", True), ("1.0", "1", False), ("1.0.post1", "1.0", False)],
)
def test_versions_compare_by_pep_440(version, than, older):
    assert is_older(version, than) is older


def test_an_older_version_is_refused_until_the_operator_allows_it(bench):
    verdict = bench.judge(highest="1.10")
    assert "version 1.5 is older than 1.10" in verdict.reason
    assert "byenatos driver allow-downgrade acme 1.5" in verdict.reason
    write_list(bench.home.trust / DOWNGRADES, Downgrades({"acme": ["1.5"]}))
    verdict = bench.judge(highest="1.10")
    assert (verdict.reason, verdict.newest) == ("", False)
    bench.write("1.4")
    assert "version 1.4 is older" in bench.judge(highest="1.10").reason


def test_a_version_that_cannot_be_compared_is_not_signed(bench):
    with pytest.raises(InvalidRequest, match="expected a version like"):
        bench.write("the newest")


# ---- the operator's word ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", [_no_signature, _unknown])
def test_the_operator_can_sign_what_nobody_else_vouches_for(bench, deed):
    deed(bench)
    keys, _ = initialise(bench.home)
    sign_for_home(bench.home, bench.folder, keys)
    verdict = bench.judge()
    assert (verdict.reason, verdict.publisher, verdict.key) == ("", "operator", keys.public.id)
    (bench.folder / "driver.py").write_text("another")
    reason = bench.judge().reason
    assert "driver.py: expected the content that is signed" in reason
    assert "after a change that is meant: byenatos driver sign acme" in reason


def test_an_unsigned_folder_runs_only_if_the_operator_said_so_and_says_why_it_is_unsigned(bench):
    _executable(bench)
    verdict = bench.judge(unsigned=True)
    assert (verdict.reason, verdict.publisher, verdict.key) == ("", "", "")
    assert "driver.py: expected a file that is not executable" in verdict.unsigned


@pytest.mark.parametrize("deed", [_revoked_key, _link])
def test_what_is_revoked_or_no_plain_folder_does_not_run_unsigned_either(bench, deed):
    deed(bench)
    assert bench.judge(unsigned=True).reason


def test_a_revoked_state_does_not_come_back_unsigned(bench):
    _no_signature(bench)
    write_list(bench.home.trust / REVOKED, Revoked(plugins={bench.judge(unsigned=True).digest: "no"}))
    assert "is revoked: no" in bench.judge(unsigned=True).reason


def _strip(bench: Bench) -> None:
    (bench.folder / "plugin.sig").unlink()


def _strip_and_make_executable(bench: Bench) -> None:
    _strip(bench)
    (bench.folder / "driver.py").chmod(0o755)


def _sign_by_the_operator(bench: Bench) -> None:
    _strip(bench)
    sign_for_home(bench.home, bench.folder, initialise(bench.home)[0])


def _break_the_signature(bench: Bench) -> None:
    stranger = make_keys(bench.home.path / "stranger.key", "stranger", LATER)
    (bench.folder / "plugin.sig").write_bytes(sign_folder(bench.folder, stranger)[1])


@pytest.mark.parametrize(
    "deed", [_strip, _strip_and_make_executable, _unknown, _sign_by_the_operator, _break_the_signature]
)
def test_a_state_that_was_revoked_when_it_was_signed_does_not_come_back_under_another_digest(bench, deed):
    digest = bench.judge().digest
    deed(bench)
    before = bench.judge(unsigned=True)
    assert (before.reason, before.digest == digest) == ("", False)
    write_list(bench.home.trust / REVOKED, Revoked(plugins={digest: "it deletes files"}))
    assert "is revoked: it deletes files" in bench.judge(unsigned=True).reason
    (bench.folder / "driver.py").write_text("class Acme: 'mended'\n")
    (bench.folder / "plugin.sig").unlink(missing_ok=True)
    assert bench.judge(unsigned=True).reason == ""


# ---- files of the operator -------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(deadline=None)  # each writes to the disk and waits for it
@given(
    st.dictionaries(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), TEXT, max_size=3),
    st.dictionaries(TEXT, st.lists(TEXT, max_size=3), max_size=3),
)
def test_lists_are_read_as_they_were_written(tmp_path_factory, keys, allowed):
    folder = tmp_path_factory.mktemp("trust")
    write_list(folder / REVOKED, Revoked(keys))
    write_list(folder / DOWNGRADES, Downgrades(allowed))
    trust = read_trust([folder])
    assert trust.revoked.keys == keys
    assert trust.downgrades.allowed == allowed


@given(st.binary(max_size=60))
def test_a_list_of_rubbish_is_refused_by_its_name(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("trust")
    (folder / REVOKED).write_bytes(b'surprise = 1\n"' + data)
    with pytest.raises(InvalidRequest, match=r"revoked\.toml: "):
        read_trust([folder])


def test_a_key_that_expires_soon_is_named_before_it_does(bench):
    def said(day: dt.date) -> list[str]:
        public = msgspec.structs.replace(bench.keys.public, expires=day)
        (bench.home.trust / "acme.pub").write_text(format_public_key(public))
        return read_policy(bench.home).trust.expiring(dt.date(2030, 5, 1))

    (warning,) = said(dt.date(2030, 5, 30))
    assert warning.startswith(
        f"the key {bench.keys.public.id} of acme expires on 2030-05-30: what it signed is refused"
    )
    assert said(dt.date(2030, 5, 1))
    assert not said(dt.date(2030, 4, 30))
    assert not said(dt.date(2030, 5, 31))
