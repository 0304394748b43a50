"""The control plane: the methods that a client may call, their parameters, results and events.

A method's parameters and result are maps in msgpack. :data:`METHODS` is the table; ``swap`` and ``events`` send
:class:`Event` notices before they reply (``events`` until it is cancelled).
"""

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    InstanceState,
    Message,
    ModelHealthStatus,
    ModelSpecification,
    SessionInfo,
    SessionMove,
    SwapEvent,
    SwapRequest,
    TokenCount,
    Value,
)

__all__ = [
    "DRIVER_METHODS",
    "METHODS",
    "DriverFailed",
    "DriverRestarting",
    "Empty",
    "Event",
    "FrontInfo",
    "InstanceChanged",
    "InstanceInfo",
    "KeepOrder",
    "KernelStatus",
    "LoadOrder",
    "LoadRequest",
    "ModelChanged",
    "ModelInfo",
    "ModelState",
    "MoveOrder",
    "Named",
    "PluginInfo",
    "PluginState",
    "ProbeOrder",
    "ProbeResult",
    "SessionState",
    "SessionTranscript",
    "SlotInfo",
    "SwapAdvanced",
    "Turn",
    "UnloadRequest",
]

ModelState: TypeAlias = Literal["copying", "checking", "available", "refused", "removed"]
PluginState: TypeAlias = Literal["checking", "available", "refused"]


# ---- parameters ------------------------------------------------------------------------------------------------


class Empty(Value, frozen=True):
    """No parameters, or nothing to say."""


class Named(Value, frozen=True):
    """A method's one argument: the name of a session, or of a slot or model."""

    name: str


class KeepOrder(Value, frozen=True):
    """Store a conversation that is over: its turns, and a note that only whoever wrote it understands.

    Of those with a note the kernel keeps the latest; older ones are forgotten.
    """

    id: str
    slot: str
    messages: tuple[Message, ...]
    note: bytes


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


# ---- results ---------------------------------------------------------------------------------------------------


class ModelInfo(Value, frozen=True, omit_defaults=True):
    """A model that the registry knows. ``reason`` says why it is refused; ``path`` is empty for declared models."""

    id: str
    driver: str
    state: ModelState
    reason: str = ""
    path: str = ""
    specification: ModelSpecification | None = None
    instances: int = 0
    slots: tuple[str, ...] = ()


class PluginInfo(Value, frozen=True, omit_defaults=True):
    """A plugin folder. ``reason`` says why it is refused.

    ``publisher`` signed it with ``key``; ``digest`` is the state of it that was verified and runs. ``unsigned`` says
    why there is no valid signature, where the operator lets such a folder run.
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


class SlotInfo(Value, frozen=True, omit_defaults=True):
    """A slot and what it is bound to. ``state``: ``ready``, ``loading``, ``degraded``, ``unavailable`` or ``empty``."""

    name: str
    model: str
    state: Literal["ready", "loading", "degraded", "unavailable", "empty"]
    epochs: tuple[int, ...] = ()
    streams: int = 0
    swap: SwapEvent | None = None
    detail: str = ""


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
    """The kernel at a glance. ``cpu_s``: CPU seconds of its main thread; counters since it started."""

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


class Turn(Value, frozen=True, omit_defaults=True):
    """One stored turn. ``state``: ``complete``, or ``partial`` when the answer was cut short."""

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


# ---- events ----------------------------------------------------------------------------------------------------


class InstanceChanged(Value, frozen=True, tag="instance_changed"):
    """An instance went to another state."""

    at: float
    instance: InstanceInfo


class DriverFailed(Value, frozen=True, tag="driver_failed"):
    """An instance died or never came up; ``last_output`` holds its last lines."""

    at: float
    epoch: int
    driver: str
    model: str
    reason: str
    last_output: tuple[str, ...] = ()


class DriverRestarting(Value, frozen=True, tag="driver_restarting"):
    """A dead instance will be started again in ``delay_s`` seconds."""

    at: float
    driver: str
    model: str
    delay_s: float
    crashes: int


class ModelChanged(Value, frozen=True, tag="model_changed"):
    """A model was found, refused or removed."""

    at: float
    model: ModelInfo


class SwapAdvanced(Value, frozen=True, tag="swap_advanced"):
    """A swap took a step."""

    at: float
    swap: SwapEvent


class SecretInfo(Value, frozen=True):
    """A key that the operator named: where it comes from, and why it cannot be used (empty: it can)."""

    name: str
    source: str
    problem: str = ""


Event: TypeAlias = InstanceChanged | DriverFailed | DriverRestarting | ModelChanged | SwapAdvanced

METHODS: Final[dict[str, tuple[type[Struct], Any]]] = {
    "status": (Empty, KernelStatus),
    "models": (Empty, list[ModelInfo]),
    "slots": (Empty, list[SlotInfo]),
    "load": (LoadRequest, InstanceInfo),
    "unload": (UnloadRequest, Empty),
    "swap": (SwapRequest, SwapEvent),
    "swap_cancel": (Named, SwapEvent),
    "swaps": (Empty, list[SwapEvent]),
    "sessions": (Empty, list[SessionInfo]),
    "session": (Named, SessionTranscript),
    "session_remove": (Named, Empty),
    "session_keep": (KeepOrder, Empty),
    "embed": (EmbeddingRequest, EmbeddingResponse),
    "count_tokens": (InferenceRequest, TokenCount),
    "vendor_models": (Named, list[ModelSpecification]),
    "session_move": (MoveOrder, SessionMove),
    "session_prefill": (Named, SessionState),
    "session_hibernate": (Named, SessionState),
    "session_wake": (Named, SessionState),
    "secrets": (Empty, list[SecretInfo]),
    "events": (Empty, Empty),
    "shutdown": (Empty, Empty),
}
"""Every control method with the type of its parameters and of its result."""


# ---- kernel and driver runtime ---------------------------------------------------------------------------------


class LoadOrder(Value, frozen=True, omit_defaults=True):
    """What an instance is to load.

    ``path`` is the model's file, empty for models that have none, ``digest`` the BLAKE2b-256 of its content, in hex.
    ``max_tokens`` and ``temperature`` are the operator's, for requests that name none. ``declared`` is what the
    plugin's manifest says of the model; it counts where the driver has nothing to say. ``strict`` counts for all
    requests. In the ``background`` others are not to be held up: the loop's executor has low priority while it loads.
    """

    model: str
    path: str = ""
    settings: dict[str, Any] = {}
    max_tokens: int | None = None
    temperature: float | None = None
    digest: str = ""
    declared: ModelSpecification | None = None
    strict: bool = False
    background: bool = False


class ProbeOrder(Value, frozen=True):
    """Ask a driver whether a model file is its own."""

    path: str


class ProbeResult(Value, frozen=True, omit_defaults=True):
    """``specification`` if the file is the driver's; else ``reason`` says what was expected and what was found."""

    specification: ModelSpecification | None = None
    reason: str = ""


DRIVER_METHODS: Final[dict[str, tuple[type[Struct], Any]]] = {
    "probe": (ProbeOrder, ProbeResult),
    "health": (Empty, ModelHealthStatus),
    "embed": (EmbeddingRequest, EmbeddingResponse),
    "count_tokens": (InferenceRequest, TokenCount),
    "models": (Empty, list[ModelSpecification]),
}
"""Every method of a driver that the kernel calls, with the type of its parameters and of its result."""
