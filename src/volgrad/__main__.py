"""`python -m volgrad` is the command `volgrad`."""

import sys

from volgrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
