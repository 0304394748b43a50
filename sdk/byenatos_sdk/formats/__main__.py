"""Write the matrix of formats: ``python -m byenatos_sdk.formats > sdk/byenatos_sdk/formats/README.md``."""

import sys

from byenatos_sdk.formats.matrix import render

HEAD = """\
# The formats and what they can say

One module for each API format; `matrix.py` holds this table as data. A dash: the format has no way to say it. A request
that says it nevertheless is adapted, and the answer's `Finish.adapted` tells how (`adapt.py`); with `strict` it is
refused with `unsupported`, naming the parameter. Written by `python -m byenatos_sdk.formats`.

"""

TAIL = """
## A format of your own

For a driver, a format is a module (or any object) with the names of `contract.Format`: give it to `HTTPDriver.format`.
[`quill.py`](../../../tests/sdk/formats/quill.py) is a whole one in 130 lines. What it need not do itself:

- **What your vendor cannot express:** call `adapt.adapt(request, CAPABILITIES, strict=…)` first in `encode_request`,
  and hand its `losses`, `stops` and `tools` on in `Encoded`.
- **Bodies:** `wire.read_as(decoder, body)` with a msgspec type, or `read_object`, raise what a decoder may raise.
- **Streams:** `streams.UnitDecoder` over `sse.EventReader`, `ndjson.LineReader` or `json_array.ArrayReader`; you write
  `read`.
- **Errors:** `failures.failure(wire, text, code=…, kinds=…)` finds the class by the vendor's code, its words and the
  status, and when to come back.
- **Embeddings, lists of models, token counts:** define the functions of `EmbeddingFormat`, `ModelListFormat` or
  `TokenCountFormat` in `contract` too, and the driver has them.

`byenatos_sdk.testing.check_format(format, answers=[…], streams=[…])` holds it against the contract, with what you
recorded of your vendor. `CompatibilityLayer().register(format, paths=["/v2/talk"])` gives it to a program of your own
that translates between formats; the HTTP front that ships answers in the formats of the table only.
"""

if __name__ == "__main__":
    sys.stdout.write(HEAD + render() + TAIL)
