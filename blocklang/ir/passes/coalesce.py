"""coalesce: chooses, for each access to global memory, the layout that moves it with the fewest
transactions.

Threads run along the dimension in which addresses are contiguous, each with up to 16 bytes; lanes
that are left over, and then warps, go to the other dimensions, so that a row is held by as few
warps as possible (its reductions then need no shared memory). Accesses of one shape and order
share a layout, since a conversion between them would cost more; its vector is the one with which
all of them together need the fewest wavefronts, each in a loop counting for many. The choice is the
attribute `layout` of the op; `assign_layouts` makes it true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis.axis import AxisAnalysis, analyze_axes
from blocklang.ir.core import Function, Module
from blocklang.ir.layout import WARP_SIZE, LinearLayout, blocked
from blocklang.ir.ops.control import For, While
from blocklang.ir.ops.memory import Load, MemoryAccess
from blocklang.ir.types import BlockType, element_type

from .manager import Pass
from .map_dot import feeds_product

MAX_ACCESS_BYTES = 16
WAVEFRONT_BYTES = 128
ISSUE_COST = 0.25
"""An instruction's own cost, in wavefronts."""
TRIPS = 64
"""How often the body of a loop is taken to run."""


@dataclass(frozen=True)
class Coalesce(Pass):
    """Choose a layout for each access to global memory."""

    name: ClassVar[str] = "coalesce"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _choose_layouts(function)


def _choose_layouts(function: Function) -> None:
    axes = analyze_axes(function)
    num_warps = int(function.attributes["num_warps"])
    accesses = [
        op
        for op in function.walk()
        if isinstance(op, MemoryAccess) and isinstance(op.pointer.type, BlockType)
    ]
    groups: dict[tuple[tuple[int, ...], tuple[int, ...], bool], list[MemoryAccess]] = {}
    for op in accesses:
        # Factors of products leave their layout anyway.
        is_factor = isinstance(op, Load) and feeds_product(op.results[0])
        groups.setdefault((_shape(op), _order(op, axes), is_factor), []).append(op)
    for (shape, order, _), group in groups.items():
        usable = [
            (
                _vector(op, axes, order[0], num_warps),
                element_type(op.accessed).bytes,
                TRIPS ** _loop_depth(op),
            )
            for op in group
        ]
        vector = cheapest_vector(usable)
        for op in group:
            op.layout = row_layout(shape, order, vector, num_warps)


def cheapest_vector(accesses: Sequence[tuple[int, int, int]]) -> int:
    """The number of consecutive elements that threads should hold, for accesses (widest vector,
    bytes an element, how often they run).

    A warp's access takes one wavefront for each 128 bytes that it spans, touched or not, and an
    issue slot. A thread with more elements than an access can move at once needs several, which
    all span the same bytes.
    """

    def cost(vector: int) -> float:
        total = 0.0
        for widest, size, times in accesses:
            instructions = times / min(vector, widest)
            total += instructions * (
                max(1.0, vector * size * WARP_SIZE / WAVEFRONT_BYTES) + ISSUE_COST
            )
        return total

    candidates = [1 << bit for bit in range(max(v for v, _, _ in accesses).bit_length())]
    return min(candidates, key=lambda vector: (cost(vector), -vector))


def _loop_depth(op: MemoryAccess) -> int:
    """How many loops the access stands in."""
    return sum(isinstance(holder, For | While) for holder in op.holders)


def _shape(op: MemoryAccess) -> tuple[int, ...]:
    assert isinstance(op.pointer.type, BlockType)
    return op.pointer.type.shape


def _order(op: MemoryAccess, axes: AxisAnalysis) -> tuple[int, ...]:
    """Dimensions by falling contiguity of the addresses; among equals the last dimension first."""
    contiguity = axes.info[op.pointer].contiguity
    dimensions = range(len(_shape(op)))
    return tuple(sorted(dimensions, key=lambda d: (-contiguity[d], -d)))


def _vector(op: MemoryAccess, axes: AxisAnalysis, axis: int, num_warps: int) -> int:
    """Elements a thread should have in one access, without leaving threads idle."""
    size = element_type(op.accessed).bytes
    shape = _shape(op)
    wanted = min(axes.vector_width(op.pointer, axis, size), MAX_ACCESS_BYTES // size, shape[axis])
    if op.mask is not None:
        wanted = min(wanted, axes.mask_constancy(op.mask, axis))
    per_thread = math.prod(shape) // (WARP_SIZE * num_warps)
    return max(1, min(wanted, per_thread))


def row_layout(
    shape: Sequence[int], order: Sequence[int], vector: int, num_warps: int
) -> LinearLayout:
    """Lanes along `order[0]`, each with `vector` elements; then along the others; warps from the
    slowest dimension.
    """
    rank = len(shape)
    registers, lanes, warps = [1] * rank, [1] * rank, [1] * rank
    registers[order[0]] = vector
    left = WARP_SIZE
    for dimension in order:
        lanes[dimension] = min(left, max(1, shape[dimension] // registers[dimension]))
        left //= lanes[dimension]
    lanes[order[0]] *= left
    left = num_warps
    for dimension in reversed(order):
        free = shape[dimension] // (registers[dimension] * lanes[dimension])
        warps[dimension] = min(left, max(1, free))
        left //= warps[dimension]
    warps[order[-1]] *= left
    return blocked(shape, registers, lanes, warps, order).remove_zero_bases("register")[0]


def default_layout(shape: Sequence[int], num_warps: int) -> LinearLayout:
    """The layout of blocks that no memory access decides."""
    return row_layout(shape, tuple(reversed(range(len(shape)))), 1, num_warps)
