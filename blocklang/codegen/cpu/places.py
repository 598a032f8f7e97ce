"""Index arithmetic of ops that can be computed element by element, wherever they are needed.

A place is a tuple with one index for each dimension of a block: numbers of dimensions while the
plan is made, coordinates of a chunk while code is written. Only ZERO means anything here: the index
of a dimension of size 1. `inline_operands` says at which place of its operands an op finds what it
needs for one place of its result; it is the one description of the shape ops on CPUs.
"""

from __future__ import annotations

from typing import Any

from blocklang.ir.core import Operation, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import Elementwise
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import Arange, Constant, Hint, Splat
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.types import BlockType, shape_of

Place = tuple[Any, ...]


class _Zero:
    """The only index of a dimension of size 1."""

    def __repr__(self) -> str:
        return "0"


ZERO = _Zero()


def dimension_places(shape: tuple[int, ...]) -> Place:
    """The place that names each dimension of `shape` by its number."""
    return tuple(ZERO if size == 1 else index for index, size in enumerate(shape))


def inline_operands(op: Operation, place: Place) -> list[tuple[Value, Place]] | None:
    """The operands of `op`, each with the place at which it is needed for `place` of the result.

    None where the op cannot be computed element by element: its result has to be stored first.
    """
    if isinstance(op, Constant | Arange):
        return []
    if isinstance(op, Elementwise | Hint | Load | Splat):
        return [(v, place if isinstance(v.type, BlockType) else ()) for v in op.operands]
    if isinstance(op, ExpandDims):
        return [(op.operand, (*place[: op.axis], *place[op.axis + 1 :]))]
    if isinstance(op, Broadcast):
        sizes = shape_of(op.operand.type)
        return [
            (op.operand, tuple(ZERO if n == 1 else c for n, c in zip(sizes, place, strict=True)))
        ]
    if isinstance(op, Permute):
        return [(op.operand, tuple(place[op.order.index(i)] for i in range(len(place))))]
    if isinstance(op, Reshape):
        return _reshaped(op, place)
    return None


def _reshaped(op: Reshape, place: Place) -> list[tuple[Value, Place]] | None:
    # Only dimensions of size 1 come and go.
    sizes = shape_of(op.operand.type)
    if [n for n in sizes if n > 1] != [n for n in shape_of(op.results[0].type) if n > 1]:
        return None
    kept = iter(c for c, n in zip(place, shape_of(op.results[0].type), strict=True) if n > 1)
    return [(op.operand, tuple(next(kept) if n > 1 else ZERO for n in sizes))]


def is_inline(op: Op) -> bool:
    """Whether the result of `op` can be computed element by element."""
    (result,) = op.results
    return inline_operands(op, dimension_places(shape_of(result.type))) is not None
