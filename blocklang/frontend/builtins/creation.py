"""Blocks from nothing: ranges and constants."""

from __future__ import annotations

from typing import Any

from blocklang.frontend import emission
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import cast, tensor
from blocklang.frontend.errors.operations import BadRange
from blocklang.frontend.errors.types import WrongArgumentType
from blocklang.frontend.shapes import broadcast_to, check_sizes
from blocklang.frontend.values import Tensor, describe, is_number, known
from blocklang.ir.ops.program import Arange
from blocklang.ir.types import BlockType, DType, block_or_scalar, i32

from .registry import blame, blaming, builtin


def check_dtype(value: Any, argument: str = "dtype") -> DType:
    """A dtype given as an argument; raises WrongArgumentType for anything else."""
    if isinstance(value, DType):
        return value
    raise blame(
        argument,
        WrongArgumentType(
            what=f"'{argument}'",
            expected="a dtype",
            found=describe(value),
            instead="write, for example, float32",
        ),
    )


def check_shape(value: Any, argument: str = "shape") -> tuple[int, ...]:
    """A shape given as an integer or a tuple of integers, with sizes that blocks can have."""
    shape = value if isinstance(value, tuple) else (value,)
    with blaming(argument):
        if not all(type(size) is int for size in shape):
            raise WrongArgumentType(
                what=f"'{argument}'",
                expected="a tuple of integers",
                found=describe(value),
                instead="write, for example, (64, 128)",
            )
        return check_sizes(shape)


@builtin
def arange(start: Static[int], end: Static[int]) -> Tensor:
    """Return the integers from `start` to below `end` as an int32 block of rank 1.

    Both are compile-time integers; `end - start` is a power of two.

    Example: `offsets = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)`
    """
    for argument, bound in (("start", start), ("end", end)):
        if type(bound) is not int:
            raise blame(
                argument,
                WrongArgumentType(
                    what=f"'{argument}' of arange()",
                    expected="an integer",
                    found=describe(bound),
                    instead="use // to divide integers",
                ),
            )
    if end <= start:
        raise BadRange(start=start, end=end, problem="the end must be above the start")
    if start < i32.minimum or end - 1 > i32.maximum:
        raise BadRange(start=start, end=end, problem="the numbers do not fit into int32")
    shape = check_sizes((end - start,))
    type_ = BlockType(shape, i32)
    return emission.emit(Arange(start, end, loc=emission.location(), result_types=[type_]))


@builtin
def full(shape: Static[Any], value: Any, dtype: Static[Any] = None) -> Tensor:
    """Return a block of `shape` whose elements all equal the scalar `value`, as `dtype`.

    `dtype` may be left out where `value` has one. A `shape` of () gives a scalar.

    Example: `best = bl.full((BLOCK,), -float("inf"), bl.float32)`
    """
    sizes = check_shape(shape)
    scalar = tensor(value, "the value of full()")
    if dtype is not None or is_number(value):
        scalar = cast(scalar, check_dtype(dtype))
    if scalar.is_block:
        raise blame(
            "value",
            WrongArgumentType(
                what="the value of full()",
                expected="a scalar",
                found=describe(value),
                instead="blocks change their shape with broadcast_to() and reshape()",
            ),
        )
    return broadcast_to(scalar, sizes)


@builtin
def zeros(shape: Static[Any], dtype: Static[Any]) -> Tensor:
    """Return a block of `shape` filled with zeros of `dtype`.

    Example: `acc = bl.zeros((BLOCK_M, BLOCK_N), bl.float32)`
    """
    return known(0, block_or_scalar(check_shape(shape), check_dtype(dtype)))


@builtin
def zeros_like(input: Any) -> Tensor:
    """Return a block of zeros with the shape and dtype of `input`.

    Example: `total = bl.zeros_like(x)`
    """
    like = tensor(input)
    check_dtype(like.dtype, "input")
    return known(0, like.type)
