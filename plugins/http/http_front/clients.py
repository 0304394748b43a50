"""An application as it is known here: by its key, or everybody where there are none."""

import hashlib
from typing import Literal

from msgspec import Struct

__all__ = ["EVERYBODY", "Client", "digest_of"]

SESSION_MARK = "/"


class Client(Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[clients]]`` in ``access.toml``, as the kernel hands it over: its key's SHA-256, never the key.

    ``slots`` and models that it may name (empty: all); an ``admin`` may manage the kernel; ``per_minute`` requests are
    answered in any 60 s (0: any number).
    """

    name: str
    sha256: str
    slots: tuple[str, ...] = ()
    role: Literal["user", "admin"] = "user"
    per_minute: int = 0

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return self.role == "admin"

    def may_name(self, model: str) -> bool:
        """Whether it may ask this slot or model."""
        return not self.slots or model in self.slots

    def own_session(self, session: str) -> str:
        """Return the session that it means: users have their own, an admin may go on with anybody's."""
        return session if self.is_admin else f"{self.name}{SESSION_MARK}{session}"


EVERYBODY = Client("", "", role="admin")
"""Whoever asks where there are no keys."""


def digest_of(key: str) -> str:
    """Return what stands for a key in ``access.toml``."""
    return hashlib.sha256(key.encode()).hexdigest()
