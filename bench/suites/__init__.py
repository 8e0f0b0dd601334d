"""The sets of measurements, by the name of their command."""

from bench.suite import Suite
from bench.suites.db import DB
from bench.suites.gui import GUI
from bench.suites.http import HTTP
from bench.suites.loop import LOOP

SUITES: dict[str, Suite] = {suite.name: suite for suite in (LOOP, HTTP, DB, GUI)}
