"""What a machine does not have: why, and the one command that would change it."""

from msgspec import Struct

__all__ = ["Lack"]


class Lack(Struct, frozen=True):
    """``why`` something is missing; ``fix`` is a command, or what else an administrator must do."""

    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.why}; to change it: {self.fix}"
