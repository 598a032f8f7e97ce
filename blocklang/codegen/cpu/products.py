"""Where the operands of a matrix product lie in scratch memory.

Rows of the right factor must be contiguous, because vectors extend along them; of the left one
single elements are read, in whatever order they lie. A factor is kept in the order in which it is
loaded, so that loads are contiguous; a right factor that then lies the wrong way around is
transposed by the product itself. The sum is made in place wherever nothing else needs what it
starts from.
"""

from __future__ import annotations

from blocklang.ir.core import Argument, Block, Result, Value
from blocklang.ir.ops.control import For, If, While
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import constant_value
from blocklang.ir.ops.shape import Permute
from blocklang.ir.types import element_type, shape_of

from .places import Place, dimension_places, inline_operands
from .plan import Buffer
from .strides import Strides

_CONFLICT_BYTES, _PAD_BYTES = 512, 64
"""Rows at multiples of the first number of bytes fall into few sets of a cache; the second one is
added to them.
"""


def factor_buffer(strides: Strides, value: Value) -> Buffer:
    """A buffer for a factor that has none."""
    shape, element = shape_of(value.type), element_type(value.type)
    *batch, rows, columns = shape
    is_turned = _lies_along(strides, value, len(batch)) > _lies_along(
        strides, value, len(shape) - 1
    )
    row = _padded(rows if is_turned else columns, element.bytes)
    inner = (1, row) if is_turned else (row, 1)
    matrix = row * (columns if is_turned else rows)
    return Buffer(shape, element, (*(matrix for _ in batch), *inner))


def transposed_factor(buffer: Buffer) -> Buffer | None:
    """Memory for a right factor with contiguous rows, if it does not lie so in `buffer`."""
    *_, rows, columns = buffer.shape
    if columns == 1 or buffer.strides[-1] == 1:
        return None
    row = _padded(columns, buffer.element.bytes)
    return Buffer((rows, columns), buffer.element, (row, 1))


def permuted(op: Permute, buffer: Buffer) -> Buffer:
    """The result of `op` as it lies in the buffer of the operand."""
    strides = tuple(buffer.strides[d] for d in op.order)
    return Buffer(shape_of(op.result.type), buffer.element, strides, base=buffer)


def starts_at_zero(op: Dot) -> bool:
    """Whether nothing is added to the products."""
    return constant_value(op.acc) == 0


def may_be_overwritten(value: Value, block: Block) -> bool:
    """Whether the buffer of `value`, the sum of a product in `block`, is needed by nothing else."""
    if len(value.uses) > 1:
        return False
    if isinstance(value, Argument):
        holder = value.block.region.op if value.block.region is not None else None
        return value.block is block and isinstance(holder, For)
    assert isinstance(value, Result)
    return value.op.parent is block and isinstance(value.op, Dot | For | If | While)


def _padded(length: int, size: int) -> int:
    return length + _PAD_BYTES // size if length * size % _CONFLICT_BYTES == 0 else length


def _lies_along(strides: Strides, value: Value, dimension: int) -> int:
    """How many of the loads that make `value` are contiguous along a dimension."""
    found = 0
    pending: list[tuple[Value, Place]] = [(value, dimension_places(shape_of(value.type)))]
    seen = set(pending)
    while pending:
        value, place = pending.pop()
        if dimension not in place or not isinstance(value, Result):
            continue
        if isinstance(value.op, Load):
            found += strides.of(value.op.pointer)[place.index(dimension)] == 1
            continue
        operands = set(inline_operands(value.op, place) or ()) - seen
        seen |= operands
        pending += operands
    return found
