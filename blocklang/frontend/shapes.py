"""Shapes: broadcasting, and the sizes that blocks may have."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.ops.shape import Broadcast, ExpandDims
from blocklang.ir.types import BlockType, block_or_scalar

from . import emission
from .errors.types import NotPowerOfTwo, ShapeMismatch
from .values import Tensor


def check_sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape`, of which each size is a power of two; raises NotPowerOfTwo for others."""
    for size in shape:
        if size <= 0 or size & (size - 1):
            suggestion = 1 << max(size - 1, 0).bit_length()
            raise NotPowerOfTwo(shape=list(shape), size=size, suggestion=suggestion)
    return tuple(shape)


def broadcast_shapes(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which both broadcast; raises ShapeMismatch."""
    rank = max(len(left), len(right))
    wide_left = (1,) * (rank - len(left)) + left
    wide_right = (1,) * (rank - len(right)) + right
    for dimension, (a, b) in enumerate(zip(wide_left, wide_right, strict=True)):
        if a != b and 1 not in (a, b):
            raise ShapeMismatch(left=list(left), right=list(right), dimension=dimension, a=a, b=b)
    return tuple(map(max, wide_left, wide_right))


def broadcast_to(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`tensor` repeated to fill `shape`, to which it must broadcast."""
    if tensor.shape == shape:
        return tensor
    target = block_or_scalar(shape, tensor.dtype)
    if broadcast_shapes(tensor.shape, shape) != shape:
        position = len(shape) - len(tensor.shape)
        dimension = next((i for i, n in enumerate(tensor.shape) if shape[i + position] != n), 0)
        raise ShapeMismatch(
            left=list(tensor.shape),
            right=list(shape),
            dimension=dimension,
            a=tensor.shape[dimension],
            b=shape[dimension + position] if dimension + position >= 0 else 1,
        )
    if tensor.known is not None:
        return Tensor(target, None, tensor.known)
    if not tensor.is_block:
        handle = emission.builder().splat(emission.ir(tensor), target)
        return Tensor(target, handle)
    while len(tensor.shape) < len(shape):
        tensor = expand_dims(tensor, 0)
    if tensor.shape == shape:
        return tensor
    op = Broadcast(emission.ir(tensor), loc=emission.location(), result_types=[target])
    return emission.emit(op)


def broadcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All tensors in the shape to which they broadcast together."""
    shape: tuple[int, ...] = ()
    for tensor in tensors:
        shape = broadcast_shapes(shape, tensor.shape)
    return tuple(broadcast_to(tensor, shape) for tensor in tensors)


def expand_dims(tensor: Tensor, axis: int) -> Tensor:
    """A new dimension of size 1 before dimension `axis`."""
    shape = (*tensor.shape[:axis], 1, *tensor.shape[axis:])
    if not tensor.is_block:
        return broadcast_to(tensor, shape)
    if tensor.known is not None:
        return Tensor(BlockType(shape, tensor.dtype), None, tensor.known)
    return emission.emit(ExpandDims(emission.ir(tensor), axis, loc=emission.location()))
