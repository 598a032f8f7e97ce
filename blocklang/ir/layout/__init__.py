"""Linear layouts: which hardware index holds which element of a block, as a map over GF(2).

One class, `LinearLayout`, serves registers and shared memory; everything else here constructs
layouts or derives facts from their matrices. `docs/internals/layouts.md` is the introduction.
This package imports nothing else of the compiler and generates no code.
"""

from .conversion import Conversion, Shuffle, ShufflePlan, Swap, conversion
from .distributed import blocked, cover, replicated, sliced
from .linear import LinearLayout
from .linear_map import HARDWARE_DIMS, WARP_SIZE, LinearMap, axis_dim, padded_shape
from .shared import (
    SharedAccess,
    bank_conflicts,
    max_vector,
    shared_access,
    shared_linear,
    shared_swizzled,
    shared_tile,
)
from .swizzle import OptimalShared, optimal_shared
from .tensor_core import dot_operand, mma_accumulator, wgmma_accumulator, wgmma_operand_a

__all__ = [
    "HARDWARE_DIMS",
    "WARP_SIZE",
    "Conversion",
    "LinearLayout",
    "LinearMap",
    "OptimalShared",
    "SharedAccess",
    "Shuffle",
    "ShufflePlan",
    "Swap",
    "axis_dim",
    "bank_conflicts",
    "blocked",
    "conversion",
    "cover",
    "dot_operand",
    "max_vector",
    "mma_accumulator",
    "optimal_shared",
    "padded_shape",
    "replicated",
    "shared_access",
    "shared_linear",
    "shared_swizzled",
    "shared_tile",
    "sliced",
    "wgmma_accumulator",
    "wgmma_operand_a",
]
