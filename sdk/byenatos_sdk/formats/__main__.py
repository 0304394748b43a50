"""Write the matrix of formats: ``python -m byenatos_sdk.formats > sdk/byenatos_sdk/formats/README.md``."""

import sys

from byenatos_sdk.formats.matrix import render

HEAD = """\
# The formats and what they can say

One module for each API format; `matrix.py` holds this table as data. A dash: the format has no way to say it. A request
that says it nevertheless is adapted, and the answer's `Finish.adapted` tells how (`adapt.py`); with `strict` it is
refused with `unsupported`, naming the parameter. Written by `python -m byenatos_sdk.formats`.

"""

if __name__ == "__main__":
    sys.stdout.write(HEAD + render())
