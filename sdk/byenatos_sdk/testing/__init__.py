"""What driver authors test with, none of which takes a kernel.

:class:`DriverProcess` is the plugin in its real process; :class:`PlayedVendor` has its vendor played;
:func:`check_warm_state` moves its answers as the kernel does; :func:`check_format` holds a format against its contract.
"""

from byenatos_sdk.testing.driver_process import DriverProcess, Heard, Silence
from byenatos_sdk.testing.format import check_format
from byenatos_sdk.testing.played_vendor import PlayedVendor
from byenatos_sdk.testing.warm_state import check_warm_state

__all__ = ["DriverProcess", "Heard", "PlayedVendor", "Silence", "check_format", "check_warm_state"]
