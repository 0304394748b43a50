"""Why a request is not passed on: a status, and a sentence that the driver and the audit are told."""

__all__ = ["Refused"]


class Refused(Exception):
    """The broker answers itself with ``status``. The sentence never quotes a key."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
