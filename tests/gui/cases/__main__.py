"""Runs one case: ``python -m tests.gui.cases TOOLKIT CASE``."""

import sys

from tests.gui.cases import ends, of_one_toolkit, programs, shares
from tests.gui.cases.registry import CASES
from tools.toolkits import TOOLKITS

#: Imported for the cases that they register.
_MODULES = (ends, of_one_toolkit, programs, shares)

if __name__ == "__main__":
    CASES[sys.argv[2]](TOOLKITS[sys.argv[1]]())
