"""Entry point of ``python -m tests.compat``."""

import sys

from tests.compat.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("compat: interrupted")
