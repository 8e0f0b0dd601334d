"""``python -m whorl``: the same command line as ``whorl``."""

import sys

from whorl.cli import main

if __name__ == "__main__":
    sys.exit(main())
