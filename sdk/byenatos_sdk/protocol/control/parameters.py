"""What the methods of the control plane take."""

from byenatos_sdk.protocol.messages import Message, SwapStrategy, Value

__all__ = [
    "DriverRequest",
    "Empty",
    "KeepOrder",
    "LoadRequest",
    "MoveOrder",
    "Named",
    "RefreshRequest",
    "ReloadRequest",
    "UnloadRequest",
]


class Empty(Value, frozen=True):
    """No parameters, or nothing to say."""


class Named(Value, frozen=True):
    """A method's one argument: the name of a session, of a slot or model, or of an application."""

    name: str


class KeepOrder(Value, frozen=True, omit_defaults=True):
    """Store a conversation: its turns, and a note that only whoever wrote it understands.

    Of those with a note the kernel keeps the latest; older ones are forgotten. Without ``replaces`` the ``id`` is a new
    one; with it, a session is put in the place of the one of that ``id`` that was updated then, and not since.
    """

    id: str
    slot: str
    messages: tuple[Message, ...]
    note: bytes
    replaces: float | None = None


class MoveOrder(Value, frozen=True, omit_defaults=True):
    """Move a conversation to ``model``, which answers it from then on; without one, back to its slot.

    It goes when what is being answered has ended, or ``now``, in the middle of it.
    """

    session: str
    model: str = ""
    now: bool = False


class LoadRequest(Value, frozen=True, omit_defaults=True):
    """Load a model and keep it loaded; with ``slot``, bind a new slot to it as well."""

    model: str
    slot: str | None = None


class UnloadRequest(Value, frozen=True):
    """Drain and stop the instances of a model that no slot is bound to."""

    model: str


class ReloadRequest(Value, frozen=True, omit_defaults=True):
    """Exchange the processes of a model for new ones, in every slot."""

    model: str
    strategy: SwapStrategy = "graceful"


class DriverRequest(Value, frozen=True, omit_defaults=True):
    """Exchange what runs of a driver for another version of it, in every slot."""

    driver: str
    strategy: SwapStrategy = "graceful"


class RefreshRequest(Value, frozen=True, omit_defaults=True):
    """Ask the vendor of ``driver`` what it offers; empty: of every driver that has a model loaded."""

    driver: str = ""
