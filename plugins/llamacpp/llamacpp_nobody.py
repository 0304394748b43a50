"""A call that nobody made, for work of the engine's that no application asked for."""

from byenatos_sdk.protocol.messages import Delta, InferenceRequest

__all__ = ["NoCall"]


class NoCall:
    """Takes what is emitted and does nothing with it."""

    id = 0
    cancelled = False
    congested = False

    def __init__(self, request: InferenceRequest) -> None:
        self.request = request

    def emit(self, delta: str | Delta) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""
