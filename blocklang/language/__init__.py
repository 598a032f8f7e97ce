"""The kernel language: `import blocklang.language as bl`.

Functions of the language work inside kernels only; each has its documentation (`help(bl.load)`).
They come from the registry of `blocklang.frontend.builtins`; this module only gives them their
public names, with the dtypes, `constexpr`, `tensor` and `tensor_descriptor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocklang import host
from blocklang.frontend.builtins import BUILTINS, python
from blocklang.frontend.builtins.math import PropagateNan
from blocklang.frontend.constexpr import constexpr
from blocklang.frontend.descriptors import Descriptor as tensor_descriptor
from blocklang.frontend.values import Tensor as tensor
from blocklang.ir.types import DTYPES, PointerType

from . import math

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


for _dtype in DTYPES.values():
    globals()[_dtype.language_name] = _dtype
globals().update(BUILTINS)

pointer_type = PointerType
next_power_of_2 = host.next_power_of_2


def constexpr_function(function: Any) -> Any:
    """Let kernels call a Python function at compile time, with compile-time values.

    Example: `@bl.constexpr_function`, above `def log2(n): return n.bit_length() - 1`
    """
    return python.compile_time(function)


for _function in (host.cdiv, host.next_power_of_2, PointerType):
    python.compile_time(_function)

__all__ = [
    *sorted(BUILTINS),
    *(dtype.language_name for dtype in DTYPES.values()),
    "PropagateNan",
    "constexpr",
    "constexpr_function",
    "math",
    "next_power_of_2",
    "pointer_type",
    "tensor",
    "tensor_descriptor",
]
