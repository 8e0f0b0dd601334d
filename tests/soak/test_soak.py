"""The long versions (``make soak``), and small ones in every run, of workloads that must not make a process
grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.workloads import TOLERANCE

WORKLOADS = Path(__file__).with_name("workloads.py")
LOOPS = tuple(name for name in os.environ.get("WHORL_TEST_LOOPS", "whorl,asyncio").split(",") if name)


def run(loop: str, workload: str, count: int, limit: float) -> None:
    """Runs a workload, and fails if an operation was lost, or memory, descriptors or threads grew."""
    process = subprocess.run(
        [sys.executable, str(WORKLOADS), loop, workload, str(count)],
        capture_output=True, text=True, timeout=limit, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    print(loop, workload, count, report)
    assert report["done"] == count, report
    assert report["fds"] == 0, report
    # Those of the default executor stay: one, or one of each half.
    assert report["threads"] <= 2, report
    assert report["growth"] < TOLERANCE, report


@pytest.mark.timeout(120)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("workload", "count"),
    [
        ("timers", 100_000),
        ("callbacks", 100_000),
        ("connections", 2000),
        ("at_once", 1000),
        ("threads", 10_000),
        ("closed_loops", 4000),
        ("closed_pools", 1000),
    ],
)
def test_small(loop: str, workload: str, count: int) -> None:
    run(loop, workload, count, 110)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("workload", "count"),
    [
        ("timers", 1_000_000),
        ("callbacks", 1_000_000),
        ("connections", 100_000),
        ("at_once", 20_000),
        ("threads", 1_000_000),
        ("closed_loops", 100_000),
        ("closed_pools", 40_000),
    ],
    ids=[
        "a million timers",
        "a million callbacks",
        "100,000 connections",
        "10,000 connections at once, twice",
        "a million callbacks between loops of four threads",
        "100,000 loops closed with something pending",
        "40,000 loops closed with requests that wait for a connection",
    ],
)
def test_long(loop: str, workload: str, count: int) -> None:
    run(loop, workload, count, 1100)
