"""The signature's file: a DSSE envelope around a statement.

DSSE (https://github.com/secure-systems-lab/dsse) signs the payload together with its type, in the unambiguous form of
:func:`pae`. This house writes envelopes in one form only (one signature, the keys in this order, no spaces), and reads
no other: so each byte of the file counts, and a changed one is noticed even where the signature would not mind.
"""

from typing import Final

import msgspec
from msgspec import Struct, field

from byenatos_sdk.signing.statement import MAX_STATEMENT, Untrusted

__all__ = ["MAX_ENVELOPE", "PAYLOAD_TYPE", "Envelope", "decode_envelope", "encode_envelope", "pae"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_ENVELOPE = MAX_STATEMENT * 4 // 3 + 1024
_SIGNATURE_BYTES = 64


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    """One signature; ``keyid`` says by which key."""

    keyid: str
    sig: bytes


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    payload: bytes
    payload_type: str = field(name="payloadType")
    signatures: tuple[Signature]

    @property
    def key(self) -> str:
        """The id of the key that it says to be signed with."""
        return self.signatures[0].keyid

    @property
    def signature(self) -> bytes:
        """The signature of :func:`pae` of the payload."""
        return self.signatures[0].sig


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def pae(payload: bytes) -> bytes:
    """Return what is signed for a payload: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def encode_envelope(payload: bytes, key: str, signature: bytes) -> bytes:
    """Write an envelope."""
    return _encode(Envelope(payload, PAYLOAD_TYPE, (Signature(key, signature),)))


def decode_envelope(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        Untrusted: it is not as it must be.
    """
    if len(data) > MAX_ENVELOPE:
        raise Untrusted(f"expected a signature file of at most {MAX_ENVELOPE} bytes, found {len(data)}")
    try:
        envelope = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Untrusted(f"expected a DSSE envelope with one signature: {error}") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Untrusted(f"payloadType: expected {PAYLOAD_TYPE}, found {envelope.payload_type!r:.100}")
    if len(envelope.signature) != _SIGNATURE_BYTES:
        raise Untrusted(f"sig: expected {_SIGNATURE_BYTES} bytes, found {len(envelope.signature)}")
    if _encode(envelope) != data:
        raise Untrusted("expected the envelope in its one form, as `byenatos driver sign` writes it, found another")
    return envelope
