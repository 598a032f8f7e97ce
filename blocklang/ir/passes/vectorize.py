"""vectorize: sets how many consecutive elements of a thread each access to global memory moves at
once.

The addresses must be consecutive and aligned, the registers must hold the elements in order, and
the mask must be the same for all of them. At most 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis.axis import AxisAnalysis, analyze_axes
from blocklang.ir.core import Module
from blocklang.ir.ops.async_copy import AsyncCopy
from blocklang.ir.ops.memory import AtomicRMW, MemoryAccess
from blocklang.ir.types import BlockType, element_type

from .coalesce import MAX_ACCESS_BYTES
from .manager import Pass


@dataclass(frozen=True)
class Vectorize(Pass):
    """Set the vector width of memory accesses."""

    name: ClassVar[str] = "vectorize"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            # Atomics go one by one; asynchronous copies have been cut to their buffers.
            found = [
                op for op in function.walk()
                if isinstance(op, MemoryAccess) and not isinstance(op, AtomicRMW | AsyncCopy)
            ]  # fmt: skip
            for op in found:
                op.vector = 1
            wide = [op for op in found if any(width > 1 for width in _widths(op))]
            if wide:  # else the analysis would be for nothing
                axes = analyze_axes(function)
                for op in wide:
                    op.vector = vector_width(op, axes)


def vector_width(op: MemoryAccess, axes: AxisAnalysis) -> int:
    """The widest access that layout, addresses and mask of `op` allow, in elements."""
    size = element_type(op.accessed).bytes
    best = 1
    for axis, width in enumerate(_widths(op)):
        width = min(width, axes.vector_width(op.pointer, axis, size))
        if op.mask is not None:
            width = min(width, axes.mask_constancy(op.mask, axis))
        best = max(best, width)
    return best


def _widths(op: MemoryAccess) -> list[int]:
    """The widest access along each axis that the layout allows, in elements."""
    block = op.pointer.type
    if not isinstance(block, BlockType):
        return []
    assert block.layout is not None
    most = MAX_ACCESS_BYTES // element_type(op.accessed).bytes
    return [min(block.layout.vector_width("register", i), most) for i in range(block.rank)]
