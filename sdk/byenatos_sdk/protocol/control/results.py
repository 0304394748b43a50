"""What the methods of the control plane return: what there is, and how it stands."""

from typing import Literal, TypeAlias

from byenatos_sdk.protocol.messages import (
    InstanceState,
    Message,
    ModelSpecification,
    SessionInfo,
    SessionLevel,
    SwapEvent,
    Value,
)

__all__ = [
    "FrontInfo",
    "InstanceInfo",
    "KernelStatus",
    "ListRefreshed",
    "ModelInfo",
    "ModelState",
    "ModelUsage",
    "PluginInfo",
    "PluginState",
    "Renewal",
    "SecretInfo",
    "SessionState",
    "SessionTranscript",
    "SlotInfo",
    "TriggerInfo",
    "Turn",
    "UsageReport",
]

ModelState: TypeAlias = Literal["copying", "checking", "available", "refused", "removed"]
PluginState: TypeAlias = Literal["checking", "available", "refused"]


class ModelInfo(Value, frozen=True, omit_defaults=True):
    """A model that the registry knows. ``reason`` says why it is refused; ``path`` is empty for declared models.

    ``offered_at``: only its vendor's list names it, and did so then, in seconds since the epoch.
    """

    id: str
    driver: str
    state: ModelState
    reason: str = ""
    path: str = ""
    specification: ModelSpecification | None = None
    instances: int = 0
    slots: tuple[str, ...] = ()
    offered_at: float = 0.0


class ListRefreshed(Value, frozen=True, omit_defaults=True):
    """What became of a vendor's list: how many models are ``offered``, which can be loaded now and which no more.

    ``taken`` are names that another model has, or a declared one. ``left_out``: how many were too many, or have names
    or settings that cannot be kept. ``problem``: why the vendor was not asked.
    """

    driver: str
    offered: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    left_out: int = 0
    problem: str = ""


class PluginInfo(Value, frozen=True, omit_defaults=True):
    """A plugin folder. ``reason`` says why it is refused.

    ``publisher`` signed it with ``key``; ``digest`` is the state of it that was verified and runs. ``unsigned`` says
    why there is no valid signature, where the operator lets such a folder run. ``held`` says why what is in the folder
    now does not run: all other facts are those of the version before it, which does.
    """

    id: str
    path: str
    kind: str = ""
    version: str = ""
    summary: str = ""
    state: PluginState = "available"
    reason: str = ""
    publisher: str = ""
    key: str = ""
    digest: str = ""
    unsigned: str = ""
    held: str = ""


class InstanceInfo(Value, frozen=True, omit_defaults=True):
    """One driver process. ``since`` in seconds since the epoch; ``last_output`` is what it printed last.

    ``template`` is what the process was made from. Once it serves, ``layers`` are the layers of isolation that are not
    on, each with the reason, and ``open`` the kinds of isolation that it does not have, each with what got through.
    """

    epoch: int
    driver: str
    model: str
    state: InstanceState
    pid: int = 0
    streams: int = 0
    restarts: int = 0
    since: float = 0.0
    detail: str = ""
    specification: ModelSpecification | None = None
    last_output: tuple[str, ...] = ()
    template: str = ""
    layers: dict[str, str] = {}
    open: dict[str, str] = {}


class Renewal(Value, frozen=True, omit_defaults=True):
    """What runs of a driver now, after a reload, an upgrade or a rollback: its ``version`` and ``digest``.

    ``models`` were given new processes, and ``slots`` swapped to them.
    """

    driver: str
    version: str
    digest: str
    models: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()


class SlotInfo(Value, frozen=True, omit_defaults=True):
    """A slot and what it is bound to. ``state``: ``ready``, ``loading``, ``degraded``, ``unavailable`` or ``empty``.

    ``waiting`` requests have been accepted and wait until it is served. ``kept`` is the old model that it can be rolled
    back to now. ``elsewhere`` counts the conversations that are answered by another model or instance than the slot's.
    """

    name: str
    model: str
    state: Literal["ready", "loading", "degraded", "unavailable", "empty"]
    epochs: tuple[int, ...] = ()
    streams: int = 0
    swap: SwapEvent | None = None
    detail: str = ""
    waiting: int = 0
    kept: str = ""
    elsewhere: int = 0


class FrontInfo(Value, frozen=True, omit_defaults=True):
    """A front that the operator configured: where it listens, and how many of its ``workers`` serve (``ready``).

    ``problem`` says why it does not.
    """

    id: str
    address: str
    ready: int = 0
    workers: int = 1
    problem: str = ""


class KernelStatus(Value, frozen=True, omit_defaults=True):
    """The kernel at a glance. ``cpu_s``: CPU seconds of its main thread; counters since it started.

    ``swaps`` counts those that ended, by their last state, and ``moves`` the conversations that they moved, by level.
    """

    version: str
    pid: int
    home: str
    endpoint: str
    uptime_s: float
    rss_bytes: int
    cpu_s: float
    clients: int
    streams: int
    requests: int
    deltas: int
    slots: tuple[SlotInfo, ...] = ()
    instances: tuple[InstanceInfo, ...] = ()
    plugins: tuple[PluginInfo, ...] = ()
    warnings: tuple[str, ...] = ()
    fronts: tuple[FrontInfo, ...] = ()
    swaps: dict[str, int] = {}
    moves: dict[SessionLevel, int] = {}


class ModelUsage(Value, frozen=True, omit_defaults=True):
    """How often a model was asked for in hours like the one that comes, and its ``share`` (0 to 1) of all requests.

    ``likely``: that is enough to preload it. ``preloaded``: it is kept loaded without a slot.
    """

    model: str
    requests: int
    share: float
    loaded: bool = False
    preloaded: bool = False
    likely: bool = False


class UsageReport(Value, frozen=True, omit_defaults=True):
    """What the history of ``weeks`` weeks says of an ``hour`` of the day, on ``working`` days or on weekends.

    ``automatic``: models whose share is at least ``least_share`` are preloaded before it begins.
    """

    hour: int
    working: bool
    weeks: int
    automatic: bool
    least_share: float
    models: tuple[ModelUsage, ...] = ()


class TriggerInfo(Value, frozen=True, omit_defaults=True):
    """A trigger of ``swap.toml`` as it stands, and what it ``would`` do next.

    ``state``: ``armed``, ``holding`` (past its bound, not yet long enough), ``fired``, ``cooling`` (past ``clear``
    again, not yet long enough), or ``off`` where the operator does not let triggers swap. ``reading``: what was
    measured last (``None``: there was nothing to measure). ``fired_at`` and ``next_at`` in seconds since the epoch, 0
    where there is no such time: ``next_at`` is when a schedule is due, or when the cool-down is over. ``problem``: why
    it cannot do its work, or why its last swap failed. ``dry_run``: it only says what it would have done.
    """

    name: str
    kind: str
    slot: str
    model: str
    state: Literal["off", "armed", "holding", "fired", "cooling"]
    measure: str = ""
    reading: float | None = None
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    fired_at: float = 0.0
    next_at: float = 0.0
    would: str = ""
    dry_run: bool = False
    problem: str = ""


class Turn(Value, frozen=True, omit_defaults=True):
    """One stored turn. ``state``: ``complete``, or ``partial`` when the answer was cut short.

    ``model`` is the one that said its end, ``moves`` how often it went on at another place until then.
    """

    number: int
    message: Message
    state: Literal["complete", "partial"] = "complete"
    model: str = ""
    at: float = 0.0
    moves: int = 0


class SessionState(Value, frozen=True, omit_defaults=True):
    """What became of a session's warm state: how many positions, and the ``size_bytes`` of its file if it has one."""

    session: str
    model: str
    positions: int
    size_bytes: int = 0


class SessionTranscript(Value, frozen=True, omit_defaults=True):
    """A session with all of its turns, and the note with which it was stored (see ``KeepOrder``)."""

    info: SessionInfo
    turns: tuple[Turn, ...]
    note: bytes = b""


class SecretInfo(Value, frozen=True):
    """A key that the operator named: where it comes from, and why it cannot be used (empty: it can)."""

    name: str
    source: str
    problem: str = ""
