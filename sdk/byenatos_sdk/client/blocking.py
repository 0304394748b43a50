"""The blocking client: a thin shell over the core.

A client may be handed from thread to thread but serves one at a time; a second one that enters gets a ``RuntimeError``.
Make one for each thread: a client costs a socket and a background thread of libzmq. What happens between calls, and on
Ctrl-C, stands in ``blocking_streams``.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack
from uuid import uuid4

from msgspec import Struct

from byenatos_sdk.client.blocking_calls import Calls
from byenatos_sdk.client.blocking_streams import Events, Exchange, Pump, Stream
from byenatos_sdk.client.link import Link
from byenatos_sdk.client.replies import check_welcome, news_in, result_in
from byenatos_sdk.client.request import Options, Prompt, build_request
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import Empty, Event, SessionTranscript
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import InferenceResponse

__all__ = ["Client", "Session"]

_Result = TypeVar("_Result")


class Session:
    """A conversation that the kernel keeps under :attr:`id`: every turn is put before the next one."""

    def __init__(self, client: "Client", id: str, slot: str) -> None:
        self._client = client
        self.id = id
        self.slot = slot

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """Start the next turn; see :meth:`Client.stream`."""
        options.setdefault("model", self.slot)
        options["session"] = self.id
        return self._client.stream(prompt, **options)

    def infer(self, prompt: Prompt, **options: Unpack[Options]) -> InferenceResponse:
        """Take the next turn and return its whole answer."""
        with self.stream(prompt, **options) as stream:
            return stream.response()

    def transcript(self) -> SessionTranscript:
        """Return every turn that the kernel has stored."""
        return self._client.transcript(self.id)


class Client(Calls):
    """A client of the kernel of one home, for use inside ``with``, by one thread at a time.

    After the kernel went away a client is of no more use: every method raises ``Unavailable`` and says so. Streams are
    never silently started again; open a new client.
    """

    def __init__(
        self, home: str | Path | Home | None = None, *, name: str = "", connect_timeout_s: float = 5.0
    ) -> None:
        self._home = home if isinstance(home, Home) else Home(home)
        self._name = name
        self._connect_timeout_s = connect_timeout_s
        self._pump: Pump | None = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect and greet the kernel; ``with`` does it.

        Raises:
            KernelNotRunning: if no kernel answers there.
            Unavailable: if it refuses this client.
        """
        if self._pump is not None:
            raise RuntimeError("expected a client that was never connected; make a new Client")
        link = Link(self._home)
        self._pump = pump = Pump(link)
        try:
            event = None
            with suppress(TimeoutError):
                greeting = Exchange(pump, lambda: pump.connection.hello(self._name))
                event = greeting.next_event(time.monotonic() + self._connect_timeout_s)
            check_welcome(event, link.endpoint, self._connect_timeout_s)
        except BaseException:
            pump.hang_up("this client never connected; make a new one")
            raise

    def close(self) -> None:
        """Leave: what still runs ends in ``Cancelled`` here and is cancelled at the kernel."""
        if self._pump is not None:
            self._pump.close()

    # ---- inference ---------------------------------------------------------------------------------------------

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """Start an answer and return the stream of its deltas.

        ::

            with client.stream("Why is the sky blue?", max_tokens=200) as stream:
                for delta in stream:
                    ...

        Leaving early (``break`` out of the block, an exception, ``close()``, dropping the stream) cancels it.

        Raises:
            InvalidRequest: if a time limit is not positive or the request is too large.
            Unavailable: if the client is not connected or the kernel went away.
            Overloaded: if thousands of requests already wait to be sent.
        """
        return Stream(self._connected(), build_request(prompt, options))

    def infer(self, prompt: Prompt, **options: Unpack[Options]) -> InferenceResponse:
        """Return the whole answer; raises the error that the stream ended with. Ctrl-C cancels it."""
        with self.stream(prompt, **options) as stream:
            return stream.response()

    def session(self, id: str | None = None, *, slot: str = "default") -> Session:
        """Return a conversation: the one called ``id``, or a new one. The kernel stores it with its first turn."""
        return Session(self, id or uuid4().hex[:12], slot)

    def events(self) -> Events:
        """Follow what happens in the kernel from now on; leaving the iterator ends it."""
        return Events(self._connected())

    def shutdown(self) -> None:
        """Drain and stop the kernel. Returns when it has agreed or is gone."""
        pump = self._connected()
        try:
            self._call("shutdown", Empty(), Empty)
        except Unavailable:
            if pump.connection.loss is None:
                raise

    # ---- inside ------------------------------------------------------------------------------------------------

    def _connected(self) -> Pump:
        if self._pump is None:
            raise Unavailable("expected a client that is connected; use `with Client() as client`")
        return self._pump

    def _call(
        self, method: str, parameters: Struct, result: type[_Result], on_news: Callable[[Event], None] | None = None
    ) -> _Result:
        pump = self._connected()
        with Exchange(pump, lambda: pump.connection.call(method, parameters)) as call:
            while (news := news_in(event := call.next_event())) is not None:
                if on_news is not None:
                    on_news(news)
            return result_in(event, result)
