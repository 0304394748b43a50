"""The methods that a client may call; what is not in this table does not exist."""

from typing import Any, Final

from msgspec import Struct

from byenatos_sdk.protocol.control.parameters import (
    DriverRequest,
    Empty,
    KeepOrder,
    LoadRequest,
    MoveOrder,
    Named,
    RefreshRequest,
    ReloadRequest,
    UnloadRequest,
)
from byenatos_sdk.protocol.control.results import (
    InstanceInfo,
    KernelStatus,
    ListRefreshed,
    ModelInfo,
    Renewal,
    SecretInfo,
    SessionState,
    SessionTranscript,
    SlotInfo,
    TriggerInfo,
    UsageReport,
)
from byenatos_sdk.protocol.messages import (
    DetokenizeRequest,
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    ModelSpecification,
    SessionInfo,
    SessionMove,
    SwapEvent,
    SwapRequest,
    TokenCount,
    TokenizeRequest,
    Tokens,
)

__all__ = ["METHODS"]

METHODS: Final[dict[str, tuple[type[Struct], Any]]] = {
    "status": (Empty, KernelStatus),
    "models": (Empty, list[ModelInfo]),
    "slots": (Empty, list[SlotInfo]),
    "load": (LoadRequest, InstanceInfo),
    "unload": (UnloadRequest, Empty),
    "model_reload": (ReloadRequest, Renewal),
    "driver_upgrade": (DriverRequest, Renewal),
    "driver_rollback": (DriverRequest, Renewal),
    "preload": (Named, InstanceInfo),
    "usage": (Empty, UsageReport),
    "swap": (SwapRequest, SwapEvent),
    "swap_back": (Named, SwapEvent),
    "swap_cancel": (Named, SwapEvent),
    "swaps": (Empty, list[SwapEvent]),
    "triggers": (Empty, list[TriggerInfo]),
    "sessions": (Empty, list[SessionInfo]),
    "session": (Named, SessionTranscript),
    "session_remove": (Named, Empty),
    "session_keep": (KeepOrder, Empty),
    "embed": (EmbeddingRequest, EmbeddingResponse),
    "count_tokens": (InferenceRequest, TokenCount),
    "tokenize": (TokenizeRequest, Tokens),
    "detokenize": (DetokenizeRequest, Tokens),
    "vendor_models": (Named, list[ModelSpecification]),
    "refresh_models": (RefreshRequest, list[ListRefreshed]),
    "session_move": (MoveOrder, SessionMove),
    "session_prefill": (Named, SessionState),
    "session_hibernate": (Named, SessionState),
    "session_wake": (Named, SessionState),
    "secrets": (Empty, list[SecretInfo]),
    "client_admit": (Named, Empty),
    "events": (Empty, Empty),
    "shutdown": (Empty, Empty),
}
"""Every control method with the type of its parameters and of its result."""
