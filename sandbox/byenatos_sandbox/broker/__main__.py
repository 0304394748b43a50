"""``python -I -m byenatos_sandbox.broker``: the keeper's process; the kernel starts it by ``start_broker``."""

import os
import sys

from byenatos_sandbox.broker.keeper import main

status = main(sys.argv[1:])
sys.stdout.flush()
os._exit(status)
