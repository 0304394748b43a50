"""A call that records its answer."""

import threading
from typing import Any

from byenatos_sdk.protocol.messages import Delta, Failure, Finish, InferenceRequest, TextDelta

CEILING_S = 120.0


class RecordedCall:
    """A call as the runtime would make it; whoever tests it can wait for what is emitted."""

    def __init__(self, request: InferenceRequest, id: int = 0) -> None:
        self.id = id
        self.request = request
        self.cancelled = False
        self.congested = False
        self.deltas: list[Delta] = []
        self._changed = threading.Condition()

    def emit(self, delta: str | Delta) -> None:
        with self._changed:
            self.deltas.append(TextDelta(delta) if isinstance(delta, str) else delta)
            self._changed.notify_all()

    def flush(self) -> None:
        pass

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in list(self.deltas) if isinstance(delta, TextDelta))

    @property
    def end(self) -> Delta | None:
        return next((delta for delta in self.deltas if isinstance(delta, Finish | Failure)), None)

    def wait_for_deltas(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.deltas) >= count, CEILING_S)

    def wait(self, ceiling_s: float = CEILING_S) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: self.end is not None, ceiling_s)
        assert self.end is self.deltas[-1]
        return self.end
