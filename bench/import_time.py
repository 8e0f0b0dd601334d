"""What importing a module costs once asyncio is there: `python bench/import_time.py MODULE`."""

import asyncio  # noqa: F401  (what the import is measured beyond)
import importlib
import json
import sys
import time

wall, cpu = time.perf_counter(), time.process_time()
importlib.import_module(sys.argv[1])
cpu_seconds, seconds = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({"operations": 1, "seconds": seconds, "cpu_seconds": cpu_seconds}))
