"""Entry point of ``python -m tests.foreign``."""

import sys

from tests.foreign.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("foreign: interrupted")
