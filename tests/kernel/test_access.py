"""``access.toml``: what is read, and what is refused with which words."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_kernel.access import Access, AccessError, TemplateRules, read_access

SHA = "0123456789abcdef" * 4
SHIPPED = Path(__file__).parents[2] / "policies" / "access.toml"


def read(folder: Path, text: str) -> Access:
    path = folder / "access.toml"
    path.write_text(text)
    return read_access(path)


def test_the_shipped_file_grants_nothing_and_requires_three_kinds_of_isolation():
    access = read_access(SHIPPED)
    assert access.isolation.required == {"filesystem", "network", "system-calls"}
    assert not access.isolation.uncontained
    assert not access.plugins.unsigned
    assert access.templates == TemplateRules()
    assert access.drivers == {}
    assert access.rules("anything").network == ()


def test_a_file_that_everybody_may_write_is_not_the_operators_word(tmp_path):
    read(tmp_path, "")
    (tmp_path / "access.toml").chmod(0o666)
    with pytest.raises(AccessError, match=r"expected a file that not everybody may write, .* chmod o-w it"):
        read_access(tmp_path / "access.toml")


def test_the_examples_in_the_shipped_file_are_what_can_be_written(tmp_path):
    lines = SHIPPED.read_text().partition("# [drivers.openai]")
    example = "\n".join(line.removeprefix("#").strip() for line in (lines[1] + lines[2]).splitlines())
    sources = [line for line in example.splitlines() if line.startswith(("file", "keyring"))]
    for source in sources:
        example = example.replace(source, "")
    access = read(tmp_path, example)
    assert access.rules("openai").network == ("api.openai.com:443",)
    assert access.secrets["openai"].environment == "OPENAI_API_KEY"
    (client,) = access.clients
    assert (client.name, client.slots, client.role, client.per_minute) == ("editor", ("coder",), "user", 60)


def test_a_place_may_be_granted_as_plain_http(tmp_path):
    access = read(tmp_path, '[drivers.a]\nnetwork = ["http://box:9000"]')
    assert access.rules("a").network == ("http://box:9000",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[isolation]\nrequire = []", "unknown field `require`"),
        ("[templates]\nidle_s = -1", "templates.idle_s"),
        ('[isolation]\nrequired = ["moat"]', "isolation.required: expected some of filesystem"),
        ('[drivers.a]\nnetwork = ["api.openai.com"]', "drivers.a.network: expected 'host:port'"),
        ('[drivers.a]\nnetwork = ["*:443"]', "drivers.a.network"),
        ('[drivers.a]\nnetwork = ["https://host:443"]', "drivers.a.network"),
        ('[drivers.a]\nnetwork = ["http://host"]', "drivers.a.network"),
        ('[drivers.a]\nnetwork = ["host:65536"]', "drivers.a.network"),
        ('[drivers.a]\nnetwork = ["host:0"]', "drivers.a.network"),
        ('[drivers.a]\naddresses = ["localhost"]', "drivers.a.addresses: expected a network"),
        ('[drivers.a]\nsecrets = ["b"]', "drivers.a.secrets: expected one of [secrets], where none stands, found 'b'"),
        ('[drivers.a]\ndevices = ["/etc/passwd"]', "drivers.a.devices: expected nodes below /dev"),
        ('[drivers.a]\ndevices = ["/dev/../home/u/.ssh"]', "drivers.a.devices: expected nodes below /dev"),
        ('[drivers.a]\ndevices = ["/dev"]', "drivers.a.devices: expected nodes below /dev"),
        ('[drivers.a]\ndevices = ["/dev/."]', "drivers.a.devices: expected nodes below /dev"),
        ('[drivers.a]\nprofile = "../x"', "drivers.a.profile"),
        ('[drivers.a]\ntemplate = "none"', "template"),
        ("[secrets.a]", "secrets.a: expected exactly one of environment, file and keyring, found none"),
        ('[secrets.a]\nfile = "/a"\nkeyring = "a/b"', "found file and keyring"),
        ('[secrets.a]\nfile = "relative"', "secrets.a: file: expected an absolute path"),
        ('[secrets.a]\nkeyring = "service"', "secrets.a: keyring: expected 'service/user'"),
        ('[secrets."A b"]\nfile = "/a"', "expected a name of lower-case letters"),
        ('[[clients]]\nname = "a"', "missing required field `sha256`"),
        (f'[[clients]]\nname = "a"\nsha256 = "{SHA}"\nkey = "k"', "unknown field `key`"),
        (f'[[clients]]\nname = "A b"\nsha256 = "{SHA}"', "clients.name: expected lower-case letters"),
        (f'[[clients]]\nname = "a"\nsha256 = "{SHA}"\nrole = "root"', "role"),
        (f'[[clients]]\nname = "a"\nsha256 = "{SHA}"\nper_minute = -1', "per_minute"),
        (f'[[clients]]\nname = "a"\nsha256 = "{SHA}"\nslots = [""]', "clients.a.slots: expected names"),
        ('[[clients]]\nname = "a"\nsha256 = "abc"', "clients.a.sha256: expected 64 hexadecimal digits"),
        (
            f'[[clients]]\nname = "a"\nsha256 = "{SHA}"\n[[clients]]\nname = "a"\nsha256 = "{SHA[::-1]}"',
            "clients: expected each name once, found 'a' twice",
        ),
        (
            f'[[clients]]\nname = "a"\nsha256 = "{SHA}"\n[[clients]]\nname = "b"\nsha256 = "{SHA}"',
            "clients: expected a key of its own for b, found that of a",
        ),
        ("nonsense", "not valid TOML"),
        pytest.param(f"idle_mib = {'9' * 5000}", "not valid TOML", id="a number of more digits than Python reads"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(AccessError) as refused:
        read(tmp_path, text)
    assert words in refused.value.message
    assert str(tmp_path / "access.toml") in refused.value.message


def test_a_key_that_stands_where_a_name_belongs_is_not_repeated(tmp_path):
    with pytest.raises(AccessError) as refused:
        read(tmp_path, '[secrets.openai]\nenvironment = "sk-live-1234567890"')
    assert "1234567890" not in refused.value.message


def test_a_client_s_key_that_stands_where_its_digest_belongs_is_not_repeated(tmp_path):
    with pytest.raises(AccessError) as refused:
        read(tmp_path, '[[clients]]\nname = "a"\nsha256 = "byn-1234567890"')
    assert "1234567890" not in refused.value.message


def test_the_mark_that_some_editors_put_before_a_text_is_passed_over(tmp_path):
    assert read(tmp_path, "\ufeff[plugins]\nunsigned = true\n").plugins.unsigned


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path, make):
    make(tmp_path / "access.toml")
    with pytest.raises(AccessError, match=r"access\.toml: (expected a file|cannot be read)"):
        read_access(tmp_path / "access.toml")


def test_a_file_that_cannot_be_read_or_is_too_large_is_refused(tmp_path):
    with pytest.raises(AccessError, match="cannot be read"):
        read_access(tmp_path / "missing.toml")
    with pytest.raises(AccessError, match="expected at most"):
        read(tmp_path, "#" * ((1 << 20) + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("access") / "access.toml"
    path.write_bytes(data)
    found, refused = Access(), ""
    try:
        found = read_access(path)
    except AccessError as error:
        refused = error.message
    assert found == Access()  # of a comment, say: nothing is granted by chance
    assert not refused or str(path) in refused
