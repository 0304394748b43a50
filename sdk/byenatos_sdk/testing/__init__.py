"""What driver authors test with: their plugin in its real process, and a kernel's end to speak to it."""

from byenatos_sdk.testing.driver_process import DriverProcess, Heard, Silence

__all__ = ["DriverProcess", "Heard", "Silence"]
