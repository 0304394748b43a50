"""Says that the process is alive, from a thread of its own.

A model that computes for a second in native code holds up the event loop, not this thread: it is busy, not dead. A
process that is stopped, or stuck with the interpreter's lock, does not beat. In between, ``loop_age_ms`` says for how
long the event loop has not turned; what that means is the kernel's business (loading a model may well block it).

Every beat asks the loop for a turn. The time since a turn was asked for and did not come is the loop's age: a healthy
loop is of age 0, and no timer is needed. A loop that stands still while something is to be answered will cost the
process its life; before that, where it stands is printed, once.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Sized

from byenatos_sdk.protocol.frames import Beat, encode
from byenatos_sdk.runtime.channel import Channel

__all__ = ["TELL_S", "Heartbeat"]

TELL_S = 5.0
"""For how long a loop stands still before it is told where."""


_FRAMES = 6


class Heartbeat:
    """Sends a beat every ``every_s`` seconds until it is stopped; a beat that finds the channel full is left out."""

    def __init__(self, channel: Channel, streams: Sized, every_s: float) -> None:
        self._channel = channel
        self._streams = streams
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._asked_at: float | None = None
        self._told = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread to end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            asked_at = self._asked_at
            age_s = 0.0 if asked_at is None else time.monotonic() - asked_at
            beat = encode([(0, Beat(int(age_s * 1000), len(self._streams)))])
            with self._channel.lock:
                self._channel.send(beat)
            if age_s > TELL_S and len(self._streams) and not self._told:
                self._told = True
                self._tell(age_s)
            if asked_at is None:
                self._told = False
                self._asked_at = time.monotonic()
                self._loop.call_soon_threadsafe(self._turned)

    def _tell(self, age_s: float) -> None:
        """Print where the loop's thread is."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - what Python has for that
        stack = "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else ""
        sys.stderr.write(
            f"the event loop has been blocked for {age_s:.0f} s; what blocks belongs into a thread "
            f"(asyncio.to_thread). It is here:\n{stack}"
        )
        sys.stderr.flush()

    def _turned(self) -> None:
        self._asked_at = None
