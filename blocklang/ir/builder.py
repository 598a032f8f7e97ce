"""Builds IR: an insertion point, and one way to insert an op there.

    with builder.at(loc):
        total = builder.insert(Add(x, y, loc=builder.loc))

`constant` and `splat` are here because everybody needs them; all other ops are built with their
constructors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from .core import Argument, Block, Operation, Result, Value
from .exact import convert
from .location import SYNTHETIC, Location
from .ops.program import Constant, Splat
from .types import BlockType, DType, Type, element_type

AnyOp = TypeVar("AnyOp", bound=Operation)


class Builder:
    """Inserts ops at the end of a block, or before an op."""

    def __init__(self, block: Block, index: int | None = None, loc: Location = SYNTHETIC) -> None:
        self.block = block
        self.index = index
        self.loc = loc

    @classmethod
    def before(cls, op: Operation) -> Builder:
        """Insert before `op`, with its location."""
        assert op.parent is not None
        return cls(op.parent, op.parent.ops.index(op), op.loc)

    @classmethod
    def behind(cls, value: Value) -> Builder:
        """Insert behind the definition of `value`, with its location."""
        if isinstance(value, Argument):
            return cls(value.block, 0, value.location)
        assert isinstance(value, Result)
        assert value.op.parent is not None
        block = value.op.parent
        return cls(block, block.ops.index(value.op) + 1, value.location)

    def insert(self, op: AnyOp) -> AnyOp:
        """Put `op` at the insertion point and step behind it."""
        if self.index is None:
            self.block.append(op)
        else:
            self.block.insert(self.index, op)
            self.index += 1
        return op

    @contextmanager
    def at(self, loc: Location) -> Iterator[None]:
        """Use `loc` for what is built inside."""
        before, self.loc = self.loc, loc
        try:
            yield
        finally:
            self.loc = before

    @contextmanager
    def inside(self, block: Block) -> Iterator[None]:
        """Insert at the end of `block` inside the `with`."""
        before, (self.block, self.index) = (self.block, self.index), (block, None)
        try:
            yield
        finally:
            self.block, self.index = before

    def constant(self, value: float, type: Type) -> Value:
        """A number of `type`, converted to what the element type stores (integers wrap)."""
        kind = element_type(type)
        assert isinstance(kind, DType)
        return self.insert(
            Constant(normalize(value, kind), loc=self.loc, result_types=[type])
        ).result

    def splat(self, value: Value, type: Type) -> Value:
        """`value` in every element of the block `type`; `value` itself for a scalar type."""
        if not isinstance(type, BlockType):
            return value
        return self.insert(Splat(value, loc=self.loc, result_types=[type])).result


def normalize(value: float, kind: DType) -> int | float:
    """`value` as a constant of `kind`: integers wrap to its width, floats are rounded to it."""
    if kind.is_float:
        return float(convert(float(value), kind))
    wrapped = int(value) & ((1 << kind.bits) - 1)
    return (
        wrapped - (1 << kind.bits) if kind.kind == "int" and wrapped >> (kind.bits - 1) else wrapped
    )
