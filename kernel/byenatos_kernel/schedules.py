"""When a trigger's ``cron`` line is due, in its time zone.

The five fields are read as Debian's cron reads them (the library is ``cronsim``), also where clocks are changed: what
stands at a fixed time that is left out (02:30 on the night in spring) happens right after the change, and what stands
at a time that comes twice happens the first time only. What runs every few minutes or hours follows real time.

The library and the time zones are imported by the first schedule, not by the kernel's start.
"""

import os
from datetime import datetime, tzinfo
from pathlib import Path

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["Schedule", "zone_of"]

FIELDS = 5
LOCAL = Path("/etc/localtime")


class Schedule:
    """A cron line in a time zone; an empty ``timezone`` is this machine's.

    Raises:
        InvalidRequest: naming ``cron`` or ``timezone``, what was expected and what was found.
    """

    def __init__(self, cron: str, timezone: str = "") -> None:
        self._cron = cron
        self._zone = zone_of(timezone)
        if len(cron.split()) != FIELDS:
            raise InvalidRequest(
                f"cron: expected five fields (minute, hour, day of month, month, day of week), found {cron!r:.80}"
            )
        self.after(0.0)

    def after(self, at: float) -> float:
        """The first time later than ``at``; both in seconds since the epoch.

        Raises:
            InvalidRequest: the line cannot be read, or no such time will come.
        """
        from cronsim import CronSim, CronSimError  # idle kernels stay small

        try:
            times = CronSim(self._cron, datetime.fromtimestamp(at, self._zone))
            # from inside the hour that comes twice the library goes on with the first of the two, which is over
            return next(due for due in (one.timestamp() for one in times) if due > at)
        except CronSimError as error:
            raise InvalidRequest(f"cron: expected a cron line, found {self._cron!r:.80}: {error}") from None
        except StopIteration:
            raise InvalidRequest(f"cron: expected times that come, found {self._cron!r:.80}") from None


def zone_of(timezone: str) -> tzinfo:
    """The time zone of that name; the machine's own for an empty one.

    Raises:
        InvalidRequest: there is none of that name.
    """
    from zoneinfo import ZoneInfo  # idle kernels stay small

    name = timezone or os.environ.get("TZ", "").removeprefix(":")
    try:
        if name:
            return ZoneInfo(name)
        with LOCAL.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, LookupError) as error:
        if timezone:
            raise InvalidRequest(
                f"timezone: expected a name such as 'Europe/Berlin', found {timezone!r:.80}"
            ) from error
        return ZoneInfo("UTC")
