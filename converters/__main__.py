"""``python -m converters``: the same as ``zoo``."""

import sys

from converters.cli import main

sys.exit(main())
