"""``python -m byenatos_kernel.cli``: the command line where no script is installed."""

import sys

from byenatos_kernel.cli.entry import main

sys.exit(main())
