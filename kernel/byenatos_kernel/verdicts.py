"""What the kernel and its verifier say to each other: an order with folders, a report with a verdict on each."""

from byenatos_sdk.protocol.messages import Value

__all__ = ["Order", "Report", "Verdict"]


class Verdict(Value, frozen=True, omit_defaults=True):
    """What was decided about a folder.

    ``states`` are the digests by which somebody may have revoked it: its own, and those that the same files have when
    they are signed by another publisher, or by nobody. ``reason`` is empty if it may run; it says why not otherwise.
    ``unsigned`` says why there is no valid signature, where the operator lets such a folder run. ``newest`` says that
    no later version was seen before. ``environment`` is the folder of the packages that it asks for,
    ``environment_stamp`` how that looked when its content was checked.
    """

    folder: str
    id: str
    version: str = ""
    publisher: str = ""
    key: str = ""
    digest: str = ""
    states: tuple[str, ...] = ()
    environment: str = ""
    environment_stamp: str = ""
    unsigned: str = ""
    newest: bool = True
    reason: str = ""


class Order(Value, frozen=True):
    """Verify ``folders`` for ``home``.

    ``highest`` are the highest versions seen: plugin id, publisher, version. Stored versions that are neither in
    ``keep`` nor among those that are verified now are removed.
    """

    home: str
    folders: tuple[str, ...]
    highest: tuple[tuple[str, str, str], ...] = ()
    keep: tuple[str, ...] = ()


class Report(Value, frozen=True, omit_defaults=True):
    """The verdicts in the order of the folders; ``revoked`` keys and digests with their reasons; ``notes`` to log."""

    verdicts: tuple[Verdict, ...] = ()
    revoked: dict[str, str] = {}  # noqa: RUF012 - msgspec copies mutable defaults
    notes: tuple[str, ...] = ()
