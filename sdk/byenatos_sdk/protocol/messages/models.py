"""What a model is, and how its instances are."""

from enum import Enum
from typing import Any, Literal

from byenatos_sdk.protocol.messages.value import Value

__all__ = ["InstanceState", "ModelHealthStatus", "ModelSpecification"]


class InstanceState(Enum):
    """Where an instance stands in its life; the transitions are a table in the kernel's ``instances``."""

    DISCOVERED = "discovered"
    VERIFIED = "verified"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class ModelSpecification(Value, frozen=True, omit_defaults=True):
    """What a model is and can do, as its driver found it.

    ``context_length`` in tokens (0: not known), ``size_bytes`` of the file. ``features``: ``tools``, ``images``,
    ``audio``, ``files``, ``json_schema``, ``reasoning``, ``embeddings``, ``chat_template``; the runtime adds
    ``continue`` (can go on from a partial answer) and ``warm``. Whoever names one names all: a model with features, but
    without ``tools`` or ``images``, takes over no conversation that has any. ``memory_bytes`` is what the
    model takes of this machine once it is loaded as configured: its weights (``size_bytes`` of it are the file's, which
    processes of one model share), the context and what a step computes in; 0 if nothing, or if that is not known.
    ``settings``: what a driver must be set to for a model of its vendor's list, beside the settings of its manifest.
    """

    id: str
    driver: str = ""
    name: str = ""
    architecture: str = ""
    quantization: str = ""
    parameters: int = 0
    context_length: int = 0
    size_bytes: int = 0
    tokenizer: str = ""
    features: frozenset[str] = frozenset()
    metadata: dict[str, str] = {}
    settings: dict[str, Any] = {}
    memory_bytes: int = 0


class ModelHealthStatus(Value, frozen=True, omit_defaults=True):
    """How an instance feels: ``ok``, ``degraded`` (serves, but see ``detail``) or ``down``."""

    status: Literal["ok", "degraded", "down"] = "ok"
    detail: str = ""
    metrics: dict[str, float] = {}
