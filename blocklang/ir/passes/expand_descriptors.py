"""expand-descriptors: accesses through tensor descriptors become loads and stores under masks.

A block's address is that of its first element, computed once in 64 bits, plus what each axis adds.
Along a checked axis an element is inside if its coordinate is below the size as an unsigned number,
which one comparison tells for both ends; where ranges prove that no element lies outside there is
none. Axes of stride 1 are added last, so that their runs are seen as contiguous.

Runs on whatever descriptor accesses are left: for CPUs all of them. Descriptors that nothing uses
any more are removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis.ranges import RangeAnalysis, analyze_ranges
from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module, Result, Value
from blocklang.ir.ops.descriptor import (
    DescriptorAccess,
    DescriptorLoad,
    DescriptorReduce,
    DescriptorStore,
    MakeTensorDescriptor,
)
from blocklang.ir.ops.elementwise import Add, AddPointer, And, Cast, Compare, Multiply
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.ops.program import Arange, is_constant
from blocklang.ir.ops.shape import Broadcast, ExpandDims
from blocklang.ir.types import BlockType, DType, Element, element_type, i32, i64, shape_of, u32

from .manager import Pass


@dataclass(frozen=True)
class ExpandDescriptors(Pass):
    """Turn accesses through descriptors into accesses through pointers."""

    name: ClassVar[str] = "expand-descriptors"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _expand(function)


def _expand(function: Function) -> None:
    accesses = [op for op in function.walk() if isinstance(op, DescriptorAccess)]
    ranges = analyze_ranges(function) if accesses else RangeAnalysis({})
    for op in accesses:
        tile = _Tile(op, ranges)
        op.replace_with(tile.access())
    for made in list(function.walk()):
        if isinstance(made, MakeTensorDescriptor) and not made.result.uses:
            made.erase()


class _Tile:
    """One access: the pointers and the mask of its block, built before it."""

    def __init__(self, op: DescriptorAccess, ranges: RangeAnalysis) -> None:
        descriptor = op.descriptor
        assert isinstance(descriptor, Result)
        assert isinstance(descriptor.op, MakeTensorDescriptor)
        self.op, self.made, self.ranges = op, descriptor.op, ranges
        self.builder = Builder.before(op)
        self.block = op.block

    def access(self) -> Sequence[Value]:
        """Build the access; what replaces the results of the op."""
        op, pointers, mask = self.op, self.pointers(), self.mask()
        loc = op.loc
        if isinstance(op, DescriptorLoad):
            other = self.padding() if mask is not None else None
            return [self.builder.insert(Load(pointers, mask, other=other, loc=loc)).result]
        if isinstance(op, DescriptorStore):
            self.builder.insert(Store(pointers, mask, value=op.value, loc=loc))
            return []
        assert isinstance(op, DescriptorReduce)
        self.builder.insert(
            AtomicRMW(pointers, mask, value=op.value, kind=op.kind, semantics="relaxed", loc=loc)
        )
        return []

    def padding(self) -> Value:
        """The block of what lies outside."""
        kind = self.block.element
        assert isinstance(kind, DType)
        number = float("nan") if self.made.padding == "nan" else 0
        return self.builder.constant(number, self.block)

    # ------------------------------------------------------------ addresses

    def pointers(self) -> Value:
        """The address of every element."""
        axes = sorted(
            range(self.block.rank), key=lambda axis: is_constant(self.made.strides[axis], 1)
        )
        start: Value = self.made.pointer
        for axis in axes:
            index = self.cast(self.op.indices[axis], i64)
            distance = Multiply(index, self.made.strides[axis], loc=self.op.loc)
            start = self.add_pointer(start, self.builder.insert(distance).result)
        ones = BlockType((1,) * self.block.rank, element_type(start.type))
        block = self.builder.splat(start, ones)
        for axis in axes:
            if self.block.shape[axis] == 1:
                continue
            shape = list(shape_of(block.type))
            shape[axis] = self.block.shape[axis]
            offsets = self.along(self.distances(axis), axis)
            block = self.add_pointer(self.spread(block, shape), self.spread(offsets, shape))
        return block

    def distances(self, axis: int) -> Value:
        """How many elements each index along `axis` is from the first: a block of rank 1."""
        stride, size = self.made.strides[axis], self.block.shape[axis]
        known = self.ranges[stride]
        # The strides that ranges know are mostly constants.
        is_short = known is not None and max(-known.low, known.high) * (size - 1) <= i32.maximum
        kind = i32 if is_short else i64
        places = self.cast(self.arange(size), kind)
        if is_constant(stride, 1):
            return places
        strides = self.builder.splat(self.cast(stride, kind), places.type)
        return self.builder.insert(Multiply(places, strides, loc=self.op.loc)).result

    # ------------------------------------------------------------ masks

    def mask(self) -> Value | None:
        """Whether each element lies inside along the checked axes; None if that is known."""
        mask: Value | None = None
        for axis in range(self.block.rank):
            if axis in self.op.unchecked or self.is_inside(axis):
                continue
            inside = self.spread(self.along(self.inside(axis), axis), self.block.shape)
            if mask is not None:
                inside = self.builder.insert(And(mask, inside, loc=self.op.loc)).result
            mask = inside
        return mask

    def is_inside(self, axis: int) -> bool:
        """Whether ranges prove that the block ends before the tensor does."""
        index, size = self.ranges[self.op.indices[axis]], self.ranges[self.made.shape[axis]]
        if index is None or size is None:
            return False
        return index.low >= 0 and index.high + self.block.shape[axis] <= size.low

    def inside(self, axis: int) -> Value:
        """Whether each index along `axis` lies inside: a block of rank 1."""
        size, index = self.block.shape[axis], self.op.indices[axis]
        places = self.arange(size)
        sum_ = Add(self.builder.splat(index, places.type), places, loc=self.op.loc)
        coordinates: Value = self.builder.insert(sum_).result
        limit, known = self.made.shape[axis], self.ranges[index]
        if known is None or known.low < 0 or known.high + size - 1 > i32.maximum:
            # Negative coordinates, and those beyond the largest, are large unsigned numbers.
            coordinates, limit = self.cast(coordinates, u32), self.cast(limit, u32)
        limits = self.builder.splat(limit, coordinates.type)
        return self.builder.insert(Compare(coordinates, limits, "lt", loc=self.op.loc)).result

    # ------------------------------------------------------------ pieces

    def arange(self, size: int) -> Value:
        type = BlockType((size,), i32)
        return self.builder.insert(Arange(0, size, loc=self.op.loc, result_types=[type])).result

    def cast(self, value: Value, kind: DType) -> Value:
        if element_type(value.type) == kind:
            return value
        shape = shape_of(value.type)
        type: BlockType | Element = BlockType(shape, kind) if shape else kind
        return self.builder.insert(Cast(value, loc=self.op.loc, result_types=[type])).result

    def add_pointer(self, pointer: Value, offset: Value) -> Value:
        return self.builder.insert(AddPointer(pointer, offset, loc=self.op.loc)).result

    def along(self, value: Value, axis: int) -> Value:
        """A block of rank 1 as one of the whole rank, of size 1 along all other axes."""
        for other in range(self.block.rank):
            if other != axis:
                value = self.builder.insert(ExpandDims(value, other, loc=self.op.loc)).result
        return value

    def spread(self, value: Value, shape: Sequence[int]) -> Value:
        """`value` repeated along axes of size 1."""
        type = BlockType(tuple(shape), element_type(value.type))
        if value.type == type:
            return value
        return self.builder.insert(Broadcast(value, loc=self.op.loc, result_types=[type])).result
