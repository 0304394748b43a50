"""What one driver could learn of another that was made from the same template.

The two that are *alike* are compared by the tests, which make the attack twice.
"""

import ctypes
import os
import socket
import stat

from attacks.registry import Stopped, attack, libc

ALIKE = frozenset({"has_the_address_layout_of_another", "has_the_hash_seed_of_another"})

MOVED_ON = bytes((one + 1) % 256 for one in range(256))
"""A table for ``bytes.translate``."""

_PAGE, _MIB = 4096, 1 << 20


@attack("one-shot template")
def has_the_address_layout_of_another(prey):
    return ctypes.cast(libc().getpid, ctypes.c_void_p).value


@attack("one-shot template")
def has_the_hash_seed_of_another(prey):
    return hash("what a set of strings is ordered by")


@attack("one-shot template", "process")
def finds_the_orders_of_another_in_its_memory(prey):
    # both the words that are looked for and the memory that is looked through are moved on by one letter: neither what
    # this attack was told nor a copy that it makes is ever what it looks for
    wanted = prey["orders_moved_on"].encode()
    ours, its = os.pipe()
    libc().sbrk.restype = ctypes.c_void_p
    libc().write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    top = libc().sbrk(0)
    places = [(top - 32 * _MIB, top), *((id(one) - 4 * _MIB, id(one) + 4 * _MIB) for one in (os.environ, ours, {}))]
    for start, end in places:
        before = b""
        for page in range(start & ~(_PAGE - 1), end, _PAGE):
            if libc().write(its, page, _PAGE) != _PAGE:  # the system looks for us whether there is memory
                continue
            data = os.read(ours, _PAGE).translate(MOVED_ON)
            if wanted in before[-len(wanted) :] + data:
                return hex(page)
            before = data
    raise Stopped("none")


@attack("process")
def finds_the_way_to_order_from_its_template(prey):
    for descriptor in set(range(1024)) - {0, 1, 2, prey["wire"]}:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as one:
                if one.type == socket.SOCK_SEQPACKET:
                    return descriptor
        except OSError:
            continue
    raise Stopped("none")
