"""Entry point of ``python -m tests.conformance``."""

import sys

from tests.conformance.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("conformance: interrupted")
