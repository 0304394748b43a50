"""What is wrong with a manifest is said with its line, its key, what was expected and what was found."""

from pathlib import Path

import pytest

from byenatos_sdk.manifest import ManifestError, parse_manifest

MANIFEST = """# Acme
[plugin]
id = "acme"
version = "1"
entry = "driver:Acme"

[[egress]]
host = "a.test"

[[egress]]
host = "b.test"
key = { secret = "b", header = "x" }

[[models]]
id = "one"

[models.price]
input = 1.0
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            'version = "1"',
            'version = "1"\nauthor = "me"',
            ":5: plugin.author: expected one of id, version, entry, kind, ",
        ),
        ('version = "1"', "version = 1.0", ":4: plugin.version: expected `str`, found 1.0"),
        ('entry = "driver:Acme"\n', "", ":2: plugin.entry: expected a value, found none"),
        (
            'version = "1"',
            'version = "1"\nkind = "drive"',
            ":5: plugin.kind: expected one of 'driver', 'front', found 'drive'",
        ),
        ('host = "b.test"', 'host = "b.test"\npath = "/"', ":12: egress[1].path: expected one of host, port, scheme, "),
        ('header = "x"', 'head = "x"', ": egress[1].key.head: expected one of secret, header, "),
        ("input = 1.0", "input = 1.0\nper = 5", ":19: models[0].price.per: expected one of input, output, cached, "),
        ("# Acme", "[permission]\nthreads = 2", ":1: permission: expected one of plugin, settings, permissions, "),
        ("# Acme", "lifecycle = 5", ":1: lifecycle: expected `object`, found 5"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(right, wrong, said):
    assert right in MANIFEST
    with pytest.raises(ManifestError) as caught:
        parse_manifest(MANIFEST.replace(right, wrong, 1).encode(), Path("/plugins/acme"))
    assert caught.value.message.startswith(f"/plugins/acme/plugin.toml{said}")
