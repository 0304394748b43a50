"""Signed plugins: what is signed, by whom, and how to tell.

A plugin folder is read once (``tree``), what was read is listed in a statement (``statement``), the statement's bytes
are signed (``envelope``) with a publisher's key (``keys``). ``cryptography`` is imported where a key is used and
nowhere else: reading and comparing needs only the standard library.
"""

from byenatos_sdk.signing.envelope import Envelope, decode_envelope, encode_envelope, pae
from byenatos_sdk.signing.keys import (
    KeyPair,
    PublicKey,
    check_signature,
    format_public_key,
    make_keys,
    parse_public_key,
    read_keys,
    read_public_key,
    sign,
)
from byenatos_sdk.signing.statement import (
    SIGNATURE,
    Facts,
    Statement,
    Untrusted,
    damage,
    decode_statement,
    difference,
    digests_as,
    encode_statement,
)
from byenatos_sdk.signing.tree import MAX_BYTES, MAX_FILES, File, read_tree

__all__ = [
    "MAX_BYTES",
    "MAX_FILES",
    "SIGNATURE",
    "Envelope",
    "Facts",
    "File",
    "KeyPair",
    "PublicKey",
    "Statement",
    "Untrusted",
    "check_signature",
    "damage",
    "decode_envelope",
    "decode_statement",
    "difference",
    "digests_as",
    "encode_envelope",
    "encode_statement",
    "format_public_key",
    "make_keys",
    "pae",
    "parse_public_key",
    "read_keys",
    "read_public_key",
    "read_tree",
    "sign",
]
