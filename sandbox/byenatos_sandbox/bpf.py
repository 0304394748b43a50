"""Classic BPF, as much of it as a seccomp filter needs: instructions, a dispatch over call numbers, and an interpreter.

A *verdict* is what becomes of a call: a return value of seccomp (``SECCOMP_RET_*``), or a *check*, a straight piece of
program that looks at the arguments and returns one on every path. :func:`dispatch` finds the verdict of a number by a
balanced tree of comparisons, because it runs at every system call: eight comparisons instead of two hundred.

The interpreter is what lets a filter be tested without being installed.

Arguments that the kernel takes as 32-bit integers are compared by their low 32 bits: comparing all 64 is the hole of
CVE-2019-10063, since the upper half is ignored by the call but not by the comparison.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = [
    "ALLOW",
    "KILL",
    "TELL",
    "Verdict",
    "all_bits",
    "dispatch",
    "either",
    "errno",
    "interpret",
    "no_bits",
    "not_equal",
    "one_of",
]

LOAD, AND, RETURN, JUMP, EQUAL, AT_LEAST, ANY_BIT = 0x20, 0x54, 0x06, 0x05, 0x15, 0x35, 0x45
KILL, TELL, ALLOW = 0x80000000, 0x7FC00000, 0x7FFF0000
_NUMBER, _ARCHITECTURE = 0, 4
_FARTHEST = 250
_X32 = 0x40000000

Verdict: TypeAlias = "int | bytes"


def errno(number: int) -> int:
    """The verdict "fails with this error"."""
    return 0x00050000 | number


def _instruction(code: int, value: int = 0, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _load_argument(index: int) -> bytes:
    return _instruction(LOAD, 16 + 8 * index)


def one_of(argument: int, values: Sequence[int], otherwise: int, then: Verdict = ALLOW) -> bytes:
    """Check that an argument is one of ``values``; what comes ``then`` may be another check."""
    program = _load_argument(argument)
    for position, value in enumerate(values):
        program += _instruction(EQUAL, value, len(values) - position, 0)
    return program + _instruction(RETURN, otherwise) + _ending(then)


def all_bits(argument: int, bits: int, otherwise: int, then: Verdict = ALLOW) -> bytes:
    """Check that all of ``bits`` are set in an argument."""
    program = _load_argument(argument) + _instruction(AND, bits) + _instruction(EQUAL, bits, 1, 0)
    return program + _instruction(RETURN, otherwise) + _ending(then)


def no_bits(argument: int, bits: int, otherwise: int, then: Verdict = ALLOW) -> bytes:
    """Check that none of ``bits`` is set in an argument."""
    program = _load_argument(argument) + _instruction(ANY_BIT, bits, 0, 1)
    return program + _instruction(RETURN, otherwise) + _ending(then)


def either(argument: int, bits: int, otherwise: int, then: Verdict = ALLOW) -> bytes:
    """Check that not all of ``bits`` are set in an argument at once."""
    program = _load_argument(argument) + _instruction(AND, bits) + _instruction(EQUAL, bits, 0, 1)
    return program + _instruction(RETURN, otherwise) + _ending(then)


def not_equal(argument: int, bits: int, value: int, otherwise: int, then: Verdict = ALLOW) -> bytes:
    """Check that ``bits`` of an argument are not just ``value``."""
    program = _load_argument(argument) + _instruction(AND, bits) + _instruction(EQUAL, value, 0, 1)
    return program + _instruction(RETURN, otherwise) + _ending(then)


def _ending(verdict: Verdict) -> bytes:
    return verdict if isinstance(verdict, bytes) else _instruction(RETURN, verdict)


def dispatch(rules: Mapping[int, Verdict], *, default: int, architecture: int, x32: bool) -> bytes:
    """Build the whole program: the architecture, then the number, then its verdict.

    A call of another architecture kills; so does one of the x32 ABI (``x32``: the machine has it), which would pass
    under the numbers of x86-64 otherwise.
    """
    blocks: dict[Verdict, int] = {}
    bodies = b""
    for verdict in (default, *rules.values()):
        if verdict not in blocks:
            blocks[verdict] = len(bodies) // 8
            bodies += _ending(verdict)
    head = _instruction(LOAD, _ARCHITECTURE) + _instruction(EQUAL, architecture, 1, 0) + _instruction(RETURN, KILL)
    head += _instruction(LOAD, _NUMBER)
    if x32:
        head += _instruction(AT_LEAST, _X32, 0, 1) + _instruction(RETURN, KILL)
    tree = _tree(_ranges(rules, default))
    program = head
    for position, (code, value, if_true, if_false) in enumerate(tree):
        if isinstance(value, _Target):
            program += _instruction(JUMP, len(tree) - position - 1 + blocks[value.verdict])
        else:
            program += _instruction(code, value, if_true, if_false)
    return program + bodies


class _Target:
    """Where a jump out of the tree goes."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


_Branch: TypeAlias = "tuple[int, int | _Target, int, int]"


def _ranges(rules: Mapping[int, Verdict], default: int) -> list[tuple[int, Verdict]]:
    """Join neighbours of the same verdict: each range counts from its number up to the next one's."""
    ranges: list[tuple[int, Verdict]] = [(0, default)]
    for number in sorted(rules):
        for start, verdict in ((number, rules[number]), (number + 1, default)):
            if ranges[-1][0] == start:
                ranges.pop()
            if not ranges or ranges[-1][1] != verdict:
                ranges.append((start, verdict))
    return ranges


def _tree(ranges: Sequence[tuple[int, Verdict]]) -> list[_Branch]:
    if len(ranges) == 1:
        return [(JUMP, _Target(ranges[0][1]), 0, 0)]
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    start = ranges[middle][0]
    if len(below) <= _FARTHEST:
        return [(AT_LEAST, start, len(below), 0), *below, *above]
    return [(AT_LEAST, start, 0, 1), (JUMP, len(below), 0, 0), *below, *above]  # a condition jumps 255 at most


def interpret(program: bytes, number: int, arguments: Sequence[int] = (), *, architecture: int) -> int:
    """Run a program on one call and return what seccomp would be told.

    Raises:
        ValueError: an instruction that is not known here.
    """
    six = [*arguments, *[0] * 6][:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *(one & 0xFFFFFFFFFFFFFFFF for one in six))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, position * 8)
        position += 1
        if code == LOAD:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == AND:
            accumulator &= value
        elif code == RETURN:
            return int(value)
        elif code == JUMP:
            position += value
        elif code == EQUAL:
            position += if_true if accumulator == value else if_false
        elif code == AT_LEAST:
            position += if_true if accumulator >= value else if_false
        elif code == ANY_BIT:
            position += if_true if accumulator & value else if_false
        else:
            raise ValueError(f"expected an instruction of a seccomp filter, found code {code:#x}")
