"""Runs the command line: ``python -m overlord_device``."""

import sys

from .cli import main

sys.exit(main())
