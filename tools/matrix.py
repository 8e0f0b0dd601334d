"""Run ``make test`` on every interpreter that is found, and say how each did.

    python tools/matrix.py [TARGET]

The output of each run goes to ``.build/matrix-<tag>.log``; the table at the end has one row for each
interpreter that whorl supports, those that are not on this machine included. Exit status 1 if any run failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TAGS = ("3.11", "3.12", "3.13", "3.14", "3.14t")


def interpreters() -> dict[str, str]:
    """The interpreters that are here: tag to path."""
    command = [sys.executable, str(ROOT / "tools" / "python.py"), "--list"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)


def summary(log: Path) -> str:
    """The line that says most: pytest's last one if the run got so far, else what make stopped at."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    bars = [match[1] for line in lines if (match := re.fullmatch(r"=+ (.+ in [\d.]+s.*?) =+", line))]
    errors = [line for line in lines if re.match(r"(error|make.*\*\*\*)", line, re.I)]
    return (bars[-1:] or errors[-1:] or lines[-1:] or ["no output"])[0]


def main() -> int:
    """Run the matrix; the target is ``test`` unless another one is named."""
    target = sys.argv[1] if len(sys.argv) > 1 else "test"
    make = os.environ.get("MAKE", "make")
    logs = ROOT / ".build"
    logs.mkdir(exist_ok=True)
    # What the outer make passes to its children (MAKEFLAGS carries its PYTHON=…) is not for these runs.
    outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    here = interpreters()
    rows: list[tuple[str, str, str, str]] = []
    for tag in TAGS:
        if tag not in here:
            rows.append((tag, "not found", "", f"python3 tools/python.py {tag} installs it"))
            continue
        log = logs / f"matrix-{tag}.log"
        print(f"==> make {target} PYTHON={tag} ({here[tag]}); log: {log.relative_to(ROOT)}", flush=True)
        start = time.monotonic()
        with log.open("w") as file:
            status = subprocess.run(
                [make, target, f"PYTHON={here[tag]}"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        seconds = f"{time.monotonic() - start:.0f} s"
        rows.append((tag, "failed" if status else "passed", seconds, summary(log)))
        print(f"    {rows[-1][1]} after {seconds}: {rows[-1][3]}", flush=True)
    print()
    for tag, result, seconds, remark in [("python", "result", "time", "closing line"), *rows]:
        print(f"{tag:<8}{result:<11}{seconds:>6}  {remark}")
    return int(any(result == "failed" for _, result, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
