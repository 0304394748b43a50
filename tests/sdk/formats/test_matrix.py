from pathlib import Path

import msgspec

from byenatos_sdk import formats
from byenatos_sdk.formats.__main__ import HEAD, TAIL
from byenatos_sdk.formats.matrix import MATRIX, PARAMETERS, render
from byenatos_sdk.protocol.messages import Sampling


def test_the_parameters_are_the_fields_of_sampling():
    assert set(PARAMETERS) == {field.name for field in msgspec.structs.fields(Sampling)}
    assert all(set(row.parameters) <= set(PARAMETERS) for row in MATRIX.values())


def test_every_row_is_what_its_types_say():
    for name, row in MATRIX.items():
        assert row.format == name
        assert msgspec.convert(msgspec.to_builtins(row), type(row)) == row


def test_the_documentation_is_what_the_matrix_renders():
    path = Path(formats.__file__).with_name("README.md")
    assert path.read_text() == HEAD + render() + TAIL, (
        "run: python -m byenatos_sdk.formats > sdk/byenatos_sdk/formats/README.md"
    )
