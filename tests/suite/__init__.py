"""The op suite: every feature of the language as small kernels with NumPy references.

A `Case` (case.py) is a kernel, its arguments and what it must leave in memory. The families
(`arithmetic`, `memory`, ...) make cases; `devices.py` runs one on NumPy arrays or on a GPU;
`ahead.py` compiles one for any target without a device. The same cases serve all of them.
"""

from tests.suite import (
    arithmetic,
    atomics,
    casts,
    choice,
    control,
    functions,
    layouts,
    memory,
    reductions,
    shapes,
    specialisation,
)
from tests.suite.case import CASES, Case

__all__ = [
    "CASES",
    "Case",
    "arithmetic",
    "atomics",
    "casts",
    "choice",
    "control",
    "functions",
    "layouts",
    "memory",
    "reductions",
    "shapes",
    "specialisation",
]
