"""Tencent Cloud's request signature, TC3-HMAC-SHA256: the key signs the request and is never sent.

Source: https://cloud.tencent.com/document/api/213/30654, "Signature v3". The hash is that of the bytes that are sent;
date and timestamp are of the same second, in UTC.
"""

import hashlib
import hmac
from datetime import UTC, datetime

__all__ = ["sign"]

_ALGORITHM = "TC3-HMAC-SHA256"
_SIGNED = "content-type;host"


def sign(
    *,
    identity: str,
    key: bytes,
    service: str,
    host: str,
    method: str,
    path: str,
    query: str,
    content_type: str,
    body: bytes,
    at: int,
) -> list[tuple[bytes, bytes]]:
    """Return the headers that sign a request of exactly these bytes, made at second ``at`` since the epoch."""
    date = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    headers = f"content-type:{content_type.lower()}\nhost:{host}\n"
    canonical = f"{method}\n{path}\n{query}\n{headers}\n{_SIGNED}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{date}/{service}/tc3_request"
    to_sign = f"{_ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signing = b"TC3" + key
    for part in (date, service, "tc3_request"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, to_sign.encode(), "sha256").hex()
    credential = f"{_ALGORITHM} Credential={identity}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"
    return [(b"authorization", credential.encode()), (b"x-tc-timestamp", str(at).encode())]
