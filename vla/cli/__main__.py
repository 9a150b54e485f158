"""`python -m vla.cli`: the command without its script."""

import sys

from vla.cli import main

if __name__ == "__main__":
    sys.exit(main())
