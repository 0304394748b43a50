"""What driver authors and applications import: messages, drivers, and (from ``byenatos_sdk.client``) the client."""

from byenatos_sdk.driver import Call, Driver, Model
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceRequest,
    InferenceResponse,
    Message,
    ModelHealthStatus,
    ModelSpecification,
    Moved,
    Sampling,
    TextDelta,
    Usage,
)

__all__ = [
    "ByenatosError",
    "Call",
    "Delta",
    "Driver",
    "Failure",
    "Finish",
    "InferenceRequest",
    "InferenceResponse",
    "Message",
    "Model",
    "ModelHealthStatus",
    "ModelSpecification",
    "Moved",
    "ProbeResult",
    "Sampling",
    "TextDelta",
    "Usage",
]
