"""The rules of the house that a machine can check: dependencies, sizes, pins, and the tools."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
