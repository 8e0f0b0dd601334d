"""What the first response costs a fresh interpreter: `python -m bench.start_up LOOP CLIENT URL SIZE [CORE]`.

Imports little of its own. The clock is the process's, and so began with the interpreter.
"""

import asyncio
import json
import os
import sys
import time

from bench.clients import open_client
from bench.loops import loop_factory


async def fetch(client_name: str, url: str, size: int) -> tuple[float, float]:
    """CPU time and time of day at the first response."""
    client = open_client(client_name, 1, None)
    await client.get(url, 1, size)
    reading = time.process_time(), time.perf_counter()
    await client.close()
    return reading


def main() -> None:
    """Fetches, and says one line of JSON."""
    started = time.perf_counter()
    loop, client, url, size = sys.argv[1:5]
    for core in sys.argv[5:]:
        os.sched_setaffinity(0, {int(core)})
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        cpu, ended = runner.run(fetch(client, url, int(size)))
    print(json.dumps({"operations": 1, "seconds": ended - started, "cpu_seconds": cpu}), flush=True)
    # What a library's threads still do is not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
