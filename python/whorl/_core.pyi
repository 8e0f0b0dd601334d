"""The native half of whorl: not public, and checked against the built module by stubtest in the normal test run."""

from typing import Final, TypeVar, TypeVarTuple

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")

__version__: Final[str]
