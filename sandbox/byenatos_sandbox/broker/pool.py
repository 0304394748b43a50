"""The connections of one port, kept warm. They are never shared: what one driver sent, no other can hear of."""

import asyncio
from typing import TypeAlias

from byenatos_sandbox.broker.connect import Connector
from byenatos_sandbox.broker.messages import Rule
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.upstream import Upstream

__all__ = ["Pool"]

IDLE_S = 45.0
MOST_IDLE = 16
MOST_CONNECTIONS = 64

_Place: TypeAlias = tuple[str, str, int]


class Pool:
    """Hands out connections by place (scheme, host, port), the one used last first."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._open: dict[_Place, list[Upstream]] = {}
        self._opening: dict[_Place, asyncio.Lock] = {}
        self._loop = asyncio.get_running_loop()

    async def get(self, rule: Rule) -> Upstream:
        """Return a connection on which an exchange may begin at once.

        Raises:
            Refused: there is none to be had.
        """
        place = (rule.scheme, rule.host, rule.port)
        found = self._take(place)
        if found is not None:
            return found
        # the first answer says whether the next requests need connections of their own
        lock = self._opening.setdefault(place, asyncio.Lock())
        async with lock:
            found = self._take(place)
            if found is not None and found.multiplexed:
                return found
            known = self._open.get(place, [])
            wait = not known or known[0].multiplexed
            if wait:
                return await self._connect(rule, place)
        return found if found is not None and found.usable else await self._connect(rule, place)

    def tidy(self) -> None:
        """Close what nobody has used for a while."""
        now = self._loop.time()
        for place, connections in list(self._open.items()):
            idle = [one for one in connections if one.usable and one.idle_since]
            for one in idle:
                if now - one.idle_since > IDLE_S or len(idle) > MOST_IDLE:
                    one.close()
                    connections.remove(one)
                    idle = idle[1:]
            connections[:] = [one for one in connections if not one.closed]
            if not connections:
                del self._open[place]

    def close(self) -> None:
        """Close everything."""
        for connections in self._open.values():
            for one in connections:
                one.close()
        self._open.clear()

    # ---- private -----------------------------------------------------------------------------------------------

    def _take(self, place: _Place) -> Upstream | None:
        connections = self._open.get(place, [])
        connections[:] = [one for one in connections if not one.closed]
        for one in reversed(connections):
            if one.usable:
                return one
        return None

    async def _connect(self, rule: Rule, place: _Place) -> Upstream:
        if sum(map(len, self._open.values())) >= MOST_CONNECTIONS:
            self.tidy()
            if sum(map(len, self._open.values())) >= MOST_CONNECTIONS:
                raise Refused(503, f"{MOST_CONNECTIONS} connections are open; wait for a request to end")
        made = await self._connector.connect(rule)
        self._open.setdefault(place, []).append(made)
        return made
