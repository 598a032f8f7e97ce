"""The functions of the language, one file a family. Importing this package fills the registry."""

from . import creation, debug, descriptor, dot, loops, math, memory, program, python, reduce, shape
from .registry import BUILTINS, METHODS, builtin

__all__ = [
    "BUILTINS", "METHODS", "builtin", "creation", "debug", "descriptor", "dot", "loops",
    "math", "memory", "program", "python", "reduce", "shape",
]  # fmt: skip
