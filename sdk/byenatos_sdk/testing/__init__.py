"""What driver authors test with: their plugin in its real process with a kernel's end, or with its vendor played."""

from byenatos_sdk.testing.driver_process import DriverProcess, Heard, Silence
from byenatos_sdk.testing.played_vendor import PlayedVendor

__all__ = ["DriverProcess", "Heard", "PlayedVendor", "Silence"]
