"""Functions that rearrange or repeat the elements of blocks."""

from __future__ import annotations

import math
from typing import Any

from blocklang.frontend import emission, shapes
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import tensor
from blocklang.frontend.errors.operations import AxisOutOfRange, BadReshape, ScalarGiven
from blocklang.frontend.values import Tensor, describe
from blocklang.ir.ops.shape import Permute, Reshape
from blocklang.ir.types import BlockType

from .creation import check_shape
from .registry import blame, blaming, builtin


def normalize_axis(axis: Any, rank: int, found: Any, argument: str = "axis") -> int:
    """`axis` counted from 0; raises AxisOutOfRange."""
    if type(axis) is int and -rank <= axis < rank:
        return int(axis) % rank
    raise blame(
        argument,
        AxisOutOfRange(
            axis=axis,
            found=describe(found),
            instead=_axes_text(rank),
        ),
    )


def _axes_text(rank: int) -> str:
    if rank < 2:
        return "its only axis is 0" if rank else "scalars have no axes"
    return f"its axes are 0 to {rank - 1}"


def block(function: str, value: Any, argument: str = "input") -> Tensor:
    """An argument that must be a block; raises ScalarGiven."""
    with blaming(argument):
        operand = tensor(value, f"the argument of {function}()")
        if not operand.is_block:
            raise ScalarGiven(
                function=function,
                found=describe(value),
                instead="a scalar becomes a block with full() or broadcast_to()",
            )
    return operand


def _sizes(numbers: tuple[Any, ...]) -> Any:
    """The sizes of `f(x, 2, 4)` and of `f(x, (2, 4))`."""
    return numbers[0] if len(numbers) == 1 and isinstance(numbers[0], tuple) else numbers


def reshaped(value: Tensor, shape: tuple[int, ...], reorder: bool = False) -> Tensor:
    """`value` in another shape of the same size, in row-major order unless `reorder`."""
    if math.prod(value.shape) != math.prod(shape):
        raise BadReshape(
            problem=f"{describe(value)} has {math.prod(value.shape)} elements, and the shape "
            f"{list(shape)} has {math.prod(shape)}",
            instead="a reshape keeps the number of elements; broadcast_to() repeats them",
        )
    if value.shape == shape:
        return value
    target = BlockType(shape, value.dtype)
    if value.known is not None:
        return Tensor(target, None, value.known)
    op = Reshape(
        emission.ir(value), reorder=reorder, loc=emission.location(), result_types=[target]
    )
    return emission.emit(op)


@builtin(method=True)
def broadcast_to(input: Any, *shape: Static[Any]) -> Tensor:
    """Return `input` repeated to `shape`, given as integers or as one tuple.

    Dimensions are aligned at the last one; each must be equal or 1. Scalars fill the whole shape.

    Example: `tile = bl.broadcast_to(row[None, :], (16, BLOCK))`
    """
    value = tensor(input, "what is broadcast")
    target = check_shape(_sizes(shape))
    with blaming("shape"):
        return shapes.broadcast_to(value, target)


@builtin
def broadcast(input: Any, other: Any) -> tuple[Tensor, ...]:
    """Return both values in the shape to which they broadcast together.

    Example: `a, b = bl.broadcast(a[:, None], b[None, :])`
    """
    return shapes.broadcast(tensor(input, "'input'"), tensor(other, "'other'"))


@builtin(method=True)
def expand_dims(input: Any, axis: Static[Any]) -> Tensor:
    """Return `input` with a new dimension of size 1 at each of `axis`, an integer or a tuple.

    Axes count in the result's shape. `x[:, None]` is the same as `expand_dims(x, 1)`.

    Example: `column = bl.expand_dims(x, 1)`
    """
    value = tensor(input, "what is expanded")
    axes = axis if isinstance(axis, tuple) else (axis,)
    rank = len(value.shape) + len(axes)
    for position in sorted(normalize_axis(a, rank, input) for a in axes):
        value = shapes.expand_dims(value, position)
    return value


@builtin(method=True)
def reshape(input: Any, *shape: Static[Any], can_reorder: Static[bool] = False) -> Tensor:
    """Return the elements of `input` in another shape, given as integers or as one tuple.

    Elements keep their row-major order, unless `can_reorder` leaves it to the compiler.

    Example: `pairs = bl.reshape(x, (BLOCK // 2, 2))`
    """
    value = tensor(input, "what is reshaped")
    target = check_shape(_sizes(shape))
    if not value.is_block:
        return (
            shapes.broadcast_to(value, target)
            if math.prod(target) == 1
            else reshaped(value, target)
        )
    return reshaped(value, target, bool(can_reorder))


@builtin(method=True)
def view(input: Any, *shape: Static[Any]) -> Tensor:
    """Return the elements of `input` in another shape, in whatever order is cheap.

    Example: `flat = bl.view(x, (BLOCK_M * BLOCK_N,))`
    """
    return reshaped(block("view", input), check_shape(_sizes(shape)), reorder=True)


@builtin(method=True)
def ravel(x: Any, can_reorder: Static[bool] = False) -> Tensor:
    """Return the elements of `x` as a block of rank 1, in row-major order unless `can_reorder`.

    Example: `flat = bl.ravel(x)`
    """
    value = block("ravel", x, "x")
    return reshaped(value, (math.prod(value.shape),), bool(can_reorder))


@builtin(method=True)
def permute(input: Any, *dims: Static[Any]) -> Tensor:
    """Return `input` with its dimensions in the order `dims`, given as integers or as one tuple.

    Example: `y = bl.permute(x, (0, 2, 1))`
    """
    value = block("permute", input)
    order = _sizes(dims)
    rank = len(value.shape)
    counted = tuple(normalize_axis(axis, rank, input, "dims") for axis in order)
    if sorted(counted) != list(range(rank)):
        raise blame(
            "dims",
            BadReshape(
                problem=f"{list(order)} does not name each dimension of {describe(value)} once",
                instead=f"give the numbers 0 to {rank - 1} in the order wanted",
            ),
        )
    if counted == tuple(range(rank)):
        return value
    if value.known is not None:
        shape = tuple(value.shape[axis] for axis in counted)
        return Tensor(BlockType(shape, value.dtype), None, value.known)
    return emission.emit(Permute(emission.ir(value), counted, loc=emission.location()))


@builtin(method=True)
def trans(input: Any, *dims: Static[Any]) -> Tensor:
    """Return `input` with its last two dimensions swapped, or with its dimensions as in `dims`.

    `x.T` is the same as `bl.trans(x)`.

    Example: `columns = bl.trans(rows)`
    """
    value = block("trans", input)
    rank = len(value.shape)
    if not dims and rank < 2:
        raise blame(
            "input",
            BadReshape(
                problem=f"{describe(value)} has no two dimensions to swap",
                instead="add one: x[:, None]",
            ),
        )
    return permute(value, *(dims or (*range(rank - 2), rank - 1, rank - 2)))
