"""Read the header of a GGUF file: key-values and tensor descriptions, never the weights.

The bytes are foreign: whoever made the file chose every count, length and offset in it. So nothing is believed before
it is compared with a limit or with the file's real size, nothing is read twice, and arrays (a vocabulary has 250,000
strings) are walked over and hashed, never built. Whatever is wrong is a :class:`GGUFError` whose message says what was
expected and what was found. Standard library only: a probe must answer in milliseconds.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

import hashlib
import io
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

__all__ = ["Array", "GGUFError", "Header", "Value", "read_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_METADATA = 64 << 20
MAX_KEYS = 10_000
MAX_TENSORS = 100_000
MAX_NAME = 65_535
MAX_STRING = 1 << 20
MAX_ITEMS = 4_000_000
MAX_DEPTH = 3
MAX_DIMENSIONS = 4
MAX_LAYERS = 1024
MAX_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32
READ_AHEAD = 1 << 20

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}

_WHOLE = frozenset({0, 1, 2, 3, 4, 5, 7, 10, 11})

# fmt: off
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}
# fmt: on
"""ggml's tensor types: name, elements per block, bytes per block. A test compares it with the installed library."""


class GGUFError(Exception):
    """The file is not a GGUF file that can be read; the message says what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array that was walked over: how many items, and the SHA-256 of its bytes.

    ``items`` are kept of what models say for each layer: at most ``MAX_LAYERS`` whole numbers or truths.
    """

    count: int
    digest: str
    items: tuple[int, ...] = ()


Value: TypeAlias = int | float | bool | str | Array


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself.

    ``elements`` counts the weights of all tensors, ``weights`` names the type that most of them have, ``weight_bytes``
    is what they take, ``size_bytes`` is the least that the whole file must have.
    """

    version: int
    values: dict[str, Value]
    tensors: int
    elements: int
    weights: str
    weight_bytes: int
    size_bytes: int

    def text(self, key: str) -> str:
        """Return a string value, empty if it is missing or not a string."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def per_layer(self, key: str, layers: int, default: int) -> list[int]:
        """Return a count for each layer: of an array, or one for all; one below 0 is 0."""
        value = self.values.get(key)
        if isinstance(value, Array):
            return [max(int(item), 0) for item in value.items[:layers]] + [default] * (layers - len(value.items))
        return [self.number(key) or default] * layers

    def number(self, key: str) -> int:
        """Return a count, 0 if it is missing, below 0 or no whole number: what is negative would pay for the rest."""
        value = self.values.get(key)
        return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0


def read_header(file: BinaryIO) -> Header:
    """Read the header of ``file``, from its start.

    Raises:
        GGUFError: it is not GGUF, of a version that is not read here, truncated, or beyond a limit.
    """
    reader = _Reader(file)
    magic = reader.take(4) if reader.size >= 4 else b""
    if magic != MAGIC:
        raise GGUFError(f"not a GGUF file: expected the magic 'GGUF' at its start, found {magic!r}")
    version = reader.u32()
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        found = f"version {swapped}, big-endian" if swapped in VERSIONS else f"version {version}"
        raise GGUFError(f"expected GGUF version 2 or 3, little-endian, found {found}")
    tensors = reader.limited(reader.u64(), MAX_TENSORS, "tensors")
    keys = reader.limited(reader.u64(), MAX_KEYS, "keys")
    values: dict[str, Value] = {}
    for _ in range(keys):
        key = reader.string(MAX_NAME, "a key")
        if key in values:
            raise GGUFError(f"expected each key once, found {key[:80]!r} twice")
        values[key] = reader.value(reader.u32())
    return _read_tensors(reader, version, values, tensors)


def _read_tensors(reader: "_Reader", version: int, values: dict[str, Value], tensors: int) -> Header:
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise GGUFError(f"general.alignment: expected a power of two up to {MAX_ALIGNMENT}, found {alignment!r}")
    elements = end = 0
    bytes_by_type: dict[str, int] = {}
    for _ in range(tensors):
        name = reader.string(MAX_NAME, "a tensor's name")[:80]
        dimensions = reader.u32()
        if dimensions > MAX_DIMENSIONS:
            raise GGUFError(f"tensor {name!r}: expected at most {MAX_DIMENSIONS} dimensions, found {dimensions}")
        shape = [reader.u64() for _ in range(dimensions)]
        kind, offset = reader.u32(), reader.u64()
        label, per_block, block_bytes = TENSOR_TYPES.get(kind, ("", 0, 0))
        if not label:
            raise GGUFError(f"tensor {name!r}: expected a tensor type that is known here, found {kind}")
        if shape and shape[0] % per_block:
            raise GGUFError(f"tensor {name!r}: expected rows of a multiple of {per_block} ({label}), found {shape[0]}")
        if offset % alignment:
            raise GGUFError(f"tensor {name!r}: expected an offset that is a multiple of {alignment}, found {offset}")
        count = 1
        for extent in shape:
            count *= extent
        size = count // per_block * block_bytes
        elements += count
        bytes_by_type[label] = bytes_by_type.get(label, 0) + size
        end = max(end, offset + size)
    start = (reader.position + alignment - 1) // alignment * alignment if tensors else reader.position
    reader.expect(start + end)
    weights = max(bytes_by_type, key=bytes_by_type.__getitem__, default="")
    return Header(version, values, tensors, elements, weights, sum(bytes_by_type.values()), start + end)


class _Reader:
    """A bounded cursor over the beginning of a file; reads ahead, remembers what it read."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self.position = 0
        self._file = file
        self._data = bytearray()
        self._items = 0

    def expect(self, size: int) -> None:
        """Refuse a file that has fewer than ``size`` bytes."""
        if size > self.size:
            raise GGUFError(f"the file is truncated or damaged: expected at least {size} bytes, found {self.size}")

    def limited(self, count: int, limit: int, what: str) -> int:
        """Return ``count``, or refuse it above ``limit``."""
        if count > limit:
            raise GGUFError(f"expected at most {limit} {what}, found {count}")
        return count

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        start = self._advance(count)
        return bytes(self._data[start : start + count])

    def u32(self) -> int:
        """Read an unsigned 32-bit number."""
        return int(self._number(_U32))

    def u64(self) -> int:
        """Read an unsigned 64-bit number."""
        return int(self._number(_U64))

    def string(self, limit: int, what: str) -> str:
        """Read a string of at most ``limit`` bytes; what is not UTF-8 in it becomes U+FFFD."""
        length = self.u64()
        self.expect(self.position + length)
        return self.take(self.limited(length, limit, f"bytes in {what}")).decode(errors="replace")

    def value(self, kind: int) -> Value:
        """Read a value of type ``kind``; an array is walked over and hashed."""
        if kind == _STRING:
            return self.string(MAX_STRING, "a value")
        if kind == _ARRAY:
            start = self.position
            count = self._skip_array(depth=1)
            with memoryview(self._data) as view, view[start : self.position] as region:
                return Array(count, hashlib.sha256(region).hexdigest(), self._layers(start, count))
        value: int | float | bool = self._number(self._scalar(kind))
        return value

    def _layers(self, start: int, count: int) -> tuple[int, ...]:
        kind = _U32.unpack_from(self._data, start)[0]
        if kind not in _WHOLE or count > MAX_LAYERS:
            return ()
        return struct.unpack_from(f"<{count}{_SCALARS[kind].format[-1]}", self._data, start + _U32.size + _U64.size)

    def _skip_array(self, depth: int) -> int:
        kind, count = self.u32(), self.u64()
        if kind == _STRING:
            self._count_items(count)
            self._skip_strings(count)
        elif kind == _ARRAY:
            if depth >= MAX_DEPTH:
                raise GGUFError(f"expected arrays nested at most {MAX_DEPTH} deep, found more")
            self._count_items(count)
            for _ in range(count):
                self._skip_array(depth + 1)
        else:
            self._advance(count * self._scalar(kind).size)
        return count

    def _count_items(self, count: int) -> None:
        self.expect(self.position + count * _U64.size)
        self._items = self.limited(self._items + count, MAX_ITEMS, "strings and arrays inside arrays")

    def _skip_strings(self, count: int) -> None:
        # The hot loop of a probe: half a million rounds for a large vocabulary, so nothing but local names.
        data, position, available, unpack = self._data, self.position, len(self._data), _U64.unpack_from
        for _ in range(count):
            if position + 8 > available:
                self.position = position
                self._load(8)
                available = len(data)
            position += 8 + unpack(data, position)[0]
        self.position = position
        self._load(0)

    def _scalar(self, kind: int) -> struct.Struct:
        layout = _SCALARS.get(kind)
        if layout is None:
            raise GGUFError(f"expected a value type from 0 to 12, found {kind}")
        return layout

    def _number(self, layout: struct.Struct) -> Any:
        return layout.unpack_from(self._data, self._advance(layout.size))[0]

    def _advance(self, count: int) -> int:
        self._load(count)
        start = self.position
        self.position += count
        return start

    def _load(self, count: int) -> None:
        """Make the next ``count`` bytes available in memory."""
        end = self.position + count
        missing = end - len(self._data)
        if missing <= 0:
            return
        self.expect(end)
        self.limited(end, MAX_METADATA, "bytes of metadata")
        self._data += self._file.read(min(max(missing, READ_AHEAD), MAX_METADATA - len(self._data)))
        self.limited(end, len(self._data), "bytes (the file shrank while it was read)")
