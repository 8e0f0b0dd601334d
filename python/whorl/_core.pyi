"""The native half of whorl: not public, and checked against the built module by stubtest in the normal test run."""

import asyncio
import socket
from asyncio import transports
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from typing import Any, ClassVar, Final, TypeVar, TypeVarTuple, final
from typing_extensions import Buffer, Unpack

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")

__version__: Final[str]
