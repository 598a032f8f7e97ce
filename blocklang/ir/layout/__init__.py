"""Linear layouts: which hardware index holds which element of a block, as a map over GF(2).

One class, `LinearLayout`, serves registers and shared memory; everything else here constructs
layouts or derives facts from their matrices. `docs/internals/layouts.md` is the introduction.
This package imports nothing else of the compiler and generates no code.
"""

from .conversion import Conversion, Shuffle, ShufflePlan, Swap, conversion
from .distributed import blocked, cover, replicated, sliced
from .linear import LinearLayout
from .linear_map import HARDWARE_DIMS, WARP_SIZE, LinearMap, axis_dim, padded_shape
from .matrix_access import (
    MatrixAccess,
    best_shared,
    copied_elements,
    matrix_access,
    prefers_matrices,
)
from .pieces import Pieces, pieces
from .shared import (
    SharedAccess,
    bank_conflicts,
    is_one_run,
    max_vector,
    shared_access,
    shared_linear,
    shared_swizzled,
    shared_tile,
)
from .swizzle import OptimalShared, best_access, optimal_shared
from .tensor_core import dot_operand, mma_accumulator, wgmma_accumulator, wgmma_operand_a
from .warpgroups import WARP_BITS_OF_GROUP, warpgroup_steps

__all__ = [
    "HARDWARE_DIMS",
    "WARP_BITS_OF_GROUP",
    "WARP_SIZE",
    "Conversion",
    "LinearLayout",
    "LinearMap",
    "MatrixAccess",
    "OptimalShared",
    "Pieces",
    "SharedAccess",
    "Shuffle",
    "ShufflePlan",
    "Swap",
    "axis_dim",
    "bank_conflicts",
    "best_access",
    "best_shared",
    "blocked",
    "conversion",
    "copied_elements",
    "cover",
    "dot_operand",
    "is_one_run",
    "matrix_access",
    "max_vector",
    "mma_accumulator",
    "optimal_shared",
    "padded_shape",
    "pieces",
    "prefers_matrices",
    "replicated",
    "shared_access",
    "shared_linear",
    "shared_swizzled",
    "shared_tile",
    "sliced",
    "warpgroup_steps",
    "wgmma_accumulator",
    "wgmma_operand_a",
]
