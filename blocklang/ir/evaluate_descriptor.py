"""Tensor descriptors in the reference evaluator: element by element, with Python's integers.

A descriptor's value is the op that made it with the numbers that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from .compute import numpy_type
from .evaluate import ATOMICS, Array, Evaluator, evaluates
from .ops.descriptor import (
    DescriptorAccess,
    DescriptorLoad,
    DescriptorReduce,
    DescriptorStore,
    MakeTensorDescriptor,
)


@dataclass(frozen=True)
class Tensor:
    """A tensor in memory: the address of its first element, sizes, and strides in elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: float


@evaluates(MakeTensorDescriptor)
def _(e: Evaluator, op: MakeTensorDescriptor, pointer: Array, *rest: Array) -> Tensor:
    numbers, rank = [int(number) for number in rest], len(op.block_shape)
    padding = float("nan") if op.padding == "nan" else 0
    return Tensor(int(pointer), tuple(numbers[:rank]), tuple(numbers[rank:]), padding)


def places(
    e: Evaluator, op: DescriptorAccess, tensor: Tensor, offsets: Sequence[Array]
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Index in the block, and bytes in memory, of each element that is inside the tensor."""
    first = [int(offset) for offset in offsets]
    size = numpy_type(op.block.element).itemsize
    for index in numpy.ndindex(op.block.shape):
        place = [start + i for start, i in zip(first, index, strict=True)]
        is_inside = all(
            axis in op.unchecked or 0 <= i < n
            for axis, (i, n) in enumerate(zip(place, tensor.shape, strict=True))
        )
        if is_inside:
            distance = sum(i * stride for i, stride in zip(place, tensor.strides, strict=True))
            yield index, e.bytes_at(tensor.address + distance * size, size, op)


@evaluates(DescriptorLoad)
def _(e: Evaluator, op: DescriptorLoad, tensor: Tensor, *offsets: Array) -> Array:
    dtype = numpy_type(op.block.element)
    loaded = numpy.full(op.block.shape, tensor.padding, dtype)
    for index, memory in places(e, op, tensor, offsets):
        loaded[index] = memory.view(dtype)[0]
    return loaded


@evaluates(DescriptorStore)
def _(e: Evaluator, op: DescriptorStore, tensor: Tensor, *rest: Array) -> list[Array]:
    value = numpy.asarray(e.values[op.value])
    for index, memory in places(e, op, tensor, rest[: len(op.indices)]):
        memory[:] = value[index].reshape(1).view(numpy.uint8)
    return []


@evaluates(DescriptorReduce)
def _(e: Evaluator, op: DescriptorReduce, tensor: Tensor, *rest: Array) -> list[Any]:
    dtype = numpy_type(op.block.element)
    value = numpy.asarray(e.values[op.value])
    for index, memory in places(e, op, tensor, rest[: len(op.indices)]):
        with numpy.errstate(all="ignore"):
            total = ATOMICS[op.kind](memory.view(dtype)[0], value[index])
        memory[:] = numpy.array([total], dtype).view(numpy.uint8)
    return []
