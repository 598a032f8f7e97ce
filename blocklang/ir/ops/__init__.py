"""All ops of the IR, one file a family. Importing this package fills `op.REGISTRY`."""

from . import (
    async_copy,
    asynchronous,
    control,
    debug,
    descriptor,
    dot,
    elementwise,
    memory,
    program,
    reduce,
    shape,
    shared,
    shared_dot,
)
from .control import Call, Condition, For, If, Return, While, Yield
from .program import Arange, Assume, Constant, Hint, NumPrograms, ProgramId, Splat

__all__ = [
    "Arange", "Assume", "Call", "Condition", "Constant", "For", "Hint", "If", "NumPrograms",
    "ProgramId", "Return", "Splat", "While", "Yield", "async_copy", "asynchronous", "control",
    "debug", "descriptor", "dot", "elementwise", "memory", "program", "reduce", "shape", "shared",
    "shared_dot",
]  # fmt: skip
