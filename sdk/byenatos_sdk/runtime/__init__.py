"""The process that runs one :class:`~byenatos_sdk.driver.Driver`: it speaks to the kernel so that authors need not."""

from byenatos_sdk.runtime.process import run
from byenatos_sdk.runtime.template import preload

__all__ = ["preload", "run"]
