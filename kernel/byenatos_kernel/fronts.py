"""Fronts: plugins that speak an outside protocol to applications, each given a listening socket and nothing else.

The kernel binds the address and keeps the socket; every worker of a front gets it, with one connection to the bus, when
it starts. So a worker that crashes, or one whose plugin has a new version, is replaced without a connection being
refused: what arrives in between waits in the socket's queue.

An application is known by its key, of which a front is told the SHA-256 in its settings (``clients``). Without any keys
only this machine's own loopback is listened on. TLS is not spoken here: where others can reach the address, a proxy
with TLS belongs before it.

A worker is an instance like any other to the driver manager: it is launched, watched, restarted and drained the same
way, and it is not a model that anybody can ask.
"""

import ipaddress
import logging
import socket
from collections.abc import Mapping

import msgspec

from byenatos_kernel.access import ClientRules
from byenatos_kernel.addresses import split_address
from byenatos_kernel.bus import Bus
from byenatos_kernel.config import FrontConfig
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import FrontInfo
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, Unavailable

__all__ = ["FrontManager"]

BACKLOG = 1024

log = logging.getLogger("byenatos")


class _Front:
    """One configured front: its socket, and the workers that accept from it."""

    def __init__(self, id: str, config: FrontConfig) -> None:
        self.id = id
        self.config = config
        self.listener: socket.socket | None = None
        self.units: list[Unit] = []
        self.digest = ""
        self.problem = ""

    @property
    def address(self) -> str:
        """Where it listens: ``host:port``."""
        if self.listener is None:
            return self.config.listen
        host, port = self.listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def reachable(self) -> bool:
        """Whether other machines may reach it."""
        return self.listener is not None and not ipaddress.ip_address(self.listener.getsockname()[0]).is_loopback


class FrontManager:
    """Starts the fronts that the operator's configuration names, as soon as their plugins are there."""

    def __init__(
        self,
        configured: Mapping[str, FrontConfig],
        clients: tuple[ClientRules, ...],
        drivers: DriverManager,
        bus: Bus,
    ) -> None:
        self._clients = clients
        self._fronts = [_Front(name, config) for name, config in configured.items() if config.workers]
        self._drivers = drivers
        self._bus = bus
        self._plugins: Mapping[str, PluginEntry] = {}
        self._started = False

    @property
    def clients(self) -> tuple[ClientRules, ...]:
        """The applications that fronts answer."""
        return self._clients

    def start(self) -> None:
        """Bind the addresses. One that cannot be had is reported, and everything else goes on."""
        for front in self._fronts:
            self._bind(front)
        self._started = True
        self.plugins_changed(self._plugins)

    def adopt(self, clients: tuple[ClientRules, ...]) -> None:
        """Answer these clients from now on: workers are replaced, what they answer now comes to its end."""
        if clients == self._clients:
            return
        self._clients = clients
        for front in self._fronts:
            front.digest = ""
            if self._started and not clients and front.reachable:
                self._unbind(front)
            if self._started and front.listener is None:
                self._bind(front)
        self.plugins_changed(self._plugins)

    def plugins_changed(self, plugins: Mapping[str, PluginEntry]) -> None:
        """Start what can be started now, and replace the workers of a front whose plugin is another version by now."""
        self._plugins = plugins
        if not self._started:
            return
        for front in self._fronts:
            plugin = plugins.get(front.id)
            if front.listener is None:
                continue
            if plugin is None or plugin.manifest is None:
                if not front.units:
                    front.problem = plugin.reason if plugin is not None else f"there is no plugin {front.id!r}"
            elif plugin.manifest.plugin.kind != "front":
                front.problem = f"the plugin {front.id!r} is a {plugin.manifest.plugin.kind}, not a front"
            elif plugin.digest != front.digest or not front.units:
                self._replace(front, plugin)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know about where fronts listen."""
        return tuple(
            f"the front {front.id} listens on {front.address} without TLS: keys and texts can be read on the way; "
            "listen on this machine only and put a proxy with TLS before it"
            for front in self._fronts
            if front.reachable
        )

    def infos(self) -> tuple[FrontInfo, ...]:
        """What ``status`` says of the fronts."""
        return tuple(
            FrontInfo(
                front.id,
                front.address,
                sum(unit.ready is not None for unit in front.units),
                front.config.workers,
                front.problem or next(filter(None, map(_problem, front.units)), ""),
            )
            for front in self._fronts
        )

    def close(self) -> None:
        """Accept nothing more; the workers are stopped with all other instances."""
        for front in self._fronts:
            if front.listener is not None:
                front.listener.close()
                front.listener = None

    # ---- private -----------------------------------------------------------------------------------------------

    def _bind(self, front: _Front, address: str = "") -> None:
        front.problem = ""
        try:
            front.listener = _listen(address or front.config.listen, anywhere=bool(self._clients))
        except (OSError, ByenatosError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            front.problem = f"{front.config.listen}: {reason}; set fronts.{front.id}.listen to another address"
            log.warning("the front %s does not serve: %s", front.id, front.problem)

    def _listen_again(self, front: _Front, old: socket.socket) -> None:
        """A worker has shut the socket down, for all that have it: make another one of the same address."""
        address = front.address
        log.warning("a worker of the front %s has shut down the socket at %s; it is made anew", front.id, address)
        old.close()
        front.listener = None
        self._bind(front, address)

    def _unbind(self, front: _Front) -> None:
        """Listen no more; the workers finish what they have."""
        if front.listener is not None:
            front.listener.close()
            front.listener = None
        for unit in front.units:
            unit.pinned = False
            self._drivers.release(unit)
        front.units = []

    def _replace(self, front: _Front, plugin: PluginEntry) -> None:
        """Start new workers and let the old ones finish what they have."""
        old, front.units, front.digest, front.problem = front.units, [], plugin.digest, ""
        assert plugin.manifest is not None
        for number in range(1, front.config.workers + 1):
            entry = ModelEntry(f"{front.id}#{number}", plugin.id)
            entry.settings = {
                **plugin.manifest.settings,
                **front.config.settings,
                "clients": msgspec.to_builtins(self._clients),
                "worker": number,
            }
            try:
                front.units.append(self._drivers.load_front(entry, plugin, lambda: self._sockets(front)))
            except ByenatosError as error:
                front.problem = error.message
                log.warning("the front %s does not serve: %s", front.id, error.message)
        for unit in old:
            unit.pinned = False
            self._drivers.release(unit)

    def _sockets(self, front: _Front) -> list[socket.socket]:
        """Return what a worker that starts now is handed; whoever launches it closes them."""
        if front.listener is not None and not front.listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._listen_again(front, front.listener)
        if front.listener is None:
            raise Unavailable(front.problem or f"the front {front.id} is being stopped")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._bus.adopt(ours)
        return [theirs, front.listener.dup()]


def _problem(unit: Unit) -> str:
    """Why a worker does not serve, if it does not."""
    if unit.error is not None:
        return unit.error.message
    return "" if unit.ready is not None or not unit.last_failure else f"starts again: {unit.last_failure}"


def _listen(listen: str, *, anywhere: bool) -> socket.socket:
    """Bind and listen; ``anywhere``: also where others can reach it.

    Raises:
        InvalidRequest: not ``anywhere``, and no address of this machine's own loopback.
        OSError: it cannot be had.
    """
    host, port = split_address(listen)
    if not anywhere and not ipaddress.ip_address(host).is_loopback:
        raise InvalidRequest(
            f"expected an address of this machine only (127.0.0.1, [::1]), found {listen!r}: where others can ask, "
            "each needs a key; `byenatos keys make NAME` makes one for policies/access.toml"
        )
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # those that are accepted inherit it
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
