"""``[[egress]]`` of ``plugin.toml``: what a plugin may ask for, and how it is told what it may not."""

import pytest

from byenatos_sdk.manifest import EgressKey, Manifest, ManifestError, read_manifest

HEAD = '[plugin]\nid = "acme"\nversion = "1"\nentry = "driver:Acme"\n'


def read(tmp_path, egress: str) -> Manifest:
    folder = tmp_path / "acme"
    folder.mkdir(exist_ok=True)
    (folder / "plugin.toml").write_text(f"{HEAD}{egress}")
    return read_manifest(folder)


def test_a_whole_table_is_read(tmp_path):
    (found,) = read(
        tmp_path,
        """
[[egress]]
host = "api.acme.example"
methods = ["POST"]
paths = ["/v1/chat/completions", "/v1/models/"]
max_request_mib = 8
key = {secret = "acme", header = "authorization", prefix = "Bearer "}
""",
    ).egress
    assert found.place == "api.acme.example:443"
    assert found.key == EgressKey("acme", header="authorization", prefix="Bearer ")


def test_a_plain_host_has_the_port_of_plain_http(tmp_path):
    (found,) = read(tmp_path, '[[egress]]\nhost = "box"\nscheme = "http"').egress
    assert found.place == "box:80"


def test_any_host_may_be_asked_for_without_a_port(tmp_path):
    (found,) = read(tmp_path, '[[egress]]\nhost = "*"').egress
    assert found.anywhere
    with pytest.raises(ManifestError, match="port: expected none beside the host"):
        read(tmp_path, '[[egress]]\nhost = "*"\nport = 9')


def test_a_model_says_what_it_can_do_and_what_it_costs(tmp_path):
    table = """
[[models]]
id = "m"
name = "M"
context_length = 8
features = ["tools"]
memory_mib = 3
price = {input = 2.5, output = 10.0, source = "a page"}
"""
    (model,) = read(tmp_path, table).models
    found = model.specification
    assert (found.id, found.name, found.context_length, found.features) == ("m", "M", 8, {"tools"})
    assert found.memory_bytes == 3 << 20
    assert found.metadata == {
        "price.input": "2.5",
        "price.output": "10.0",
        "price.currency": "USD",
        "price.source": "a page",
    }
    for wrong in ("price = {input = -1.0}", "context_length = -1", "memory_mib = -1", "price = {output = 1.0}"):
        with pytest.raises(ManifestError, match="models"):
            read(tmp_path, f'[[models]]\nid = "m"\n{wrong}')


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('host = "API.example"', "egress[0].host: expected a lower-case host name"),
        ('host = "*.example"', "host: expected"),
        ('host = "a"\nport = 70000', "port: expected 1 to 65535"),
        ('host = "a"\nmethods = ["CONNECT"]', "methods: expected some of"),
        ('host = "a"\nmethods = []', "expected at least one of each"),
        ('host = "a"\npaths = ["v1"]', "paths: expected prefixes"),
        ('host = "a"\npaths = ["/v1/../x"]', "paths: expected prefixes"),
        ('host = "a"\npaths = ["//"]', "paths: expected prefixes"),
        ('host = "a"\npaths = ["/%2e"]', "paths: expected prefixes"),
        ('host = "a"\nmax_response_mib = 0', "max_response_mib: expected 1 to 4096"),
        ('host = "a"\nscheme = "ftp"', "scheme"),
        ('host = "a"\nscheme = "http"\nkey = {secret = "a", header = "x"}', "a key is sent encrypted or not at all"),
        ('host = "a"\nkey = {secret = "a"}', "expected one of header, query and scheme, found none"),
        ('host = "a"\nkey = {secret = "a", header = "x", query = "y"}', "found header and query"),
        ('host = "a"\nkey = {secret = "a", header = "x: y"}', "key.header"),
        ('host = "a"\nkey = {secret = "a", header = "x", prefix = "a\\nb"}', "key.prefix"),
        ('host = "a"\nkey = {secret = "a", query = "x", prefix = "y"}', "key.prefix"),
        ('host = "a"\nkey = {secret = "a", scheme = "tc3"}', "key.service"),
        ('host = "a"\nkey = {secret = "A b", header = "x"}', "key.secret"),
        ('host = "a"\nsecret = "sk-1"', "found a key that there is not"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, table, reason):
    with pytest.raises(ManifestError) as error:
        read(tmp_path, f"[[egress]]\n{table}\n")
    assert reason in str(error.value)


def test_the_keys_that_were_never_acted_on_are_gone(tmp_path):
    with pytest.raises(ManifestError, match="network"):
        read(tmp_path, '[permissions]\nnetwork = ["a:443"]')


def test_the_egress_socket_is_asked_for_beside_what_it_is_for(tmp_path):
    asked = "[permissions]\negress_socket = true\n"
    assert read(tmp_path, f'{asked}[[egress]]\nhost = "api.acme.example"').permissions.egress_socket
    (tmp_path / "acme" / "plugin.toml").write_text(HEAD + asked)
    with pytest.raises(ManifestError, match=r"permissions\.egress_socket: expected \[\[egress\]\] tables beside it"):
        read_manifest(tmp_path / "acme")
