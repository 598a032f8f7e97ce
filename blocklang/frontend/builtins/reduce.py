"""Reductions over one axis of a block, or over all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blocklang.frontend import emission, operators, shapes, typing_rules
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import cast, tensor
from blocklang.frontend.errors.operations import BadCombine
from blocklang.frontend.errors.types import OperandType
from blocklang.frontend.values import Tensor, describe, type_text
from blocklang.ir.core import Region
from blocklang.ir.ops.control import Yield
from blocklang.ir.ops.elementwise import Add, And, Compare, Maximum, Minimum, Or, Select, Xor
from blocklang.ir.ops.program import Arange
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.types import BlockType, bf16, f32, i32

from .creation import check_dtype
from .math import float_operand
from .registry import BUILTINS, blame, builtin
from .shape import block, normalize_axis, reshaped

Combine = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]
"""Combines the left elements with the right ones."""


def reduction(
    inputs: Sequence[Tensor], axis: Any, combine: Combine, keep_dims: Any = False
) -> tuple[Tensor, ...]:
    """Combine all elements along `axis` (None: all) of blocks that have one shape."""
    rank = len(inputs[0].shape)
    if axis is None:
        position = 0
        size = inputs[0].type.size if isinstance(inputs[0].type, BlockType) else 1
        # One input is combined in any order; several come with indices of the row-major order.
        reorder = len(inputs) == 1
        inputs = [reshaped(value, (size,), reorder) for value in inputs]
    else:
        position = normalize_axis(axis, rank, inputs[0])
    builder, location = emission.builder(), emission.location()
    handles = tuple(emission.ir(value) for value in inputs)
    region = Region()
    elements = [value.dtype for value in inputs] * 2
    arguments = [
        Tensor(element, region.block.add_argument(element, location)) for element in elements
    ]
    with emission.inside(region):
        combined = combine(arguments[: len(inputs)], arguments[len(inputs) :])
        builder.insert(Yield(tuple(emission.ir(value) for value in combined), loc=location))
    op = builder.insert(Reduce(handles, position, loc=location, regions=[region]))
    results = tuple(Tensor(result.type, result) for result in op.results)
    if not keep_dims:
        return results
    axes = range(rank) if axis is None else (position,)
    return tuple(_expanded(value, axes) for value in results)


def _expanded(value: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in axes:
        value = shapes.expand_dims(value, axis)
    return value


def _elementwise(op: type[Any]) -> Combine:
    return lambda left, right: [emission.elementwise(op, left[0], right[0])]


def _numbers(function: str, input: Any) -> Tensor:
    value = block(function, input)
    if value.is_pointer:
        raise blame(
            "input",
            OperandType(
                operator=function, operand=describe(value), instead="load() from the pointers first"
            ),
        )
    # The 8-bit floats are only stored and converted.
    return cast(value, f32) if value.number.is_float8 else value


@builtin(method=True, name="sum")
def sum_(
    input: Any,
    axis: Static[int | None] = None,
    keep_dims: Static[bool] = False,
    dtype: Static[Any] = None,
) -> Tensor:
    """Return the sum along `axis`, or of all elements.

    Integers below 32 bits are added as int32 or uint32. Floats below 32 bits are added in float32,
    and the sum is rounded to their dtype. `dtype` converts the elements first. With `keep_dims`
    the axis stays, with size 1.

    Example: `total = bl.sum(x, axis=0)`
    """
    value = _numbers("sum", input)
    result = typing_rules.sum_dtype(value.number) if dtype is None else check_dtype(dtype)
    wide = typing_rules.accumulation_dtype(result)
    (total,) = reduction([cast(cast(value, result), wide)], axis, _elementwise(Add), keep_dims)
    return cast(total, result)


def _extremum(
    function: str, input: Any, axis: Any, indices: Any, tie_break_left: Any, keep_dims: Any
) -> Any:
    value = _numbers(function, input)
    largest = function in ("max", "argmax")
    if not indices:
        value = cast(value, typing_rules.extremum_dtype(value.number))
        op = Maximum if largest else Minimum
        return reduction([value], axis, _elementwise(op), keep_dims)[0]
    value = cast(value, f32) if value.dtype == bf16 else value
    combine = _indexed("gt" if largest else "lt", bool(tie_break_left))
    return reduction([value, _positions(value, axis)], axis, combine, keep_dims)


def _positions(value: Tensor, axis: Any) -> Tensor:
    """The index of each element along `axis`, or in row-major order."""
    assert isinstance(value.type, BlockType)
    rank = len(value.shape)
    position = None if axis is None else normalize_axis(axis, rank, value)
    size = value.type.size if position is None else value.shape[position]
    block_type = BlockType((size,), i32)
    numbers = emission.emit(Arange(0, size, loc=emission.location(), result_types=[block_type]))
    if position is None:
        return reshaped(numbers, value.shape)
    numbers = _expanded(numbers, [*[0] * position, *range(position + 1, rank)])
    return shapes.broadcast_to(numbers, value.shape)


def _indexed(predicate: str, tie_break_left: bool) -> Combine:
    """Keep the better value with its index; of equal ones, the first with `tie_break_left`."""

    def combine(left: Sequence[Tensor], right: Sequence[Tensor]) -> Sequence[Tensor]:
        (value, index), (other, other_index) = left, right
        better = emission.elementwise(Compare, value, other, predicate=predicate)
        if tie_break_left:
            equal = emission.elementwise(Compare, value, other, predicate="eq")
            first = emission.elementwise(Compare, index, other_index, predicate="lt")
            tie = emission.elementwise(And, equal, first)
            better = emission.elementwise(Or, better, tie)
        return [
            emission.elementwise(Select, better, value, other),
            emission.elementwise(Select, better, index, other_index),
        ]

    return combine


@builtin(method=True, name="max")
def max_(
    input: Any,
    axis: Static[int | None] = None,
    return_indices: Static[bool] = False,
    return_indices_tie_break_left: Static[bool] = True,
    keep_dims: Static[bool] = False,
) -> Any:
    """Return the largest element along `axis`, or of all elements.

    Dtypes below 32 bits give float32 or int32. A NaN loses against a number. With `return_indices`
    the result is a tuple of values and their int32 indices, of equal values the first one's unless
    `return_indices_tie_break_left` is False; the values then keep their dtype (bfloat16 becomes
    float32).

    Example: `best = bl.max(x, axis=0)`
    """
    tie_break_left = return_indices_tie_break_left
    return _extremum("max", input, axis, return_indices, tie_break_left, keep_dims)


@builtin(method=True, name="min")
def min_(
    input: Any,
    axis: Static[int | None] = None,
    return_indices: Static[bool] = False,
    return_indices_tie_break_left: Static[bool] = True,
    keep_dims: Static[bool] = False,
) -> Any:
    """Return the smallest element along `axis`, or of all elements; see `max` for the details.

    Example: `least = bl.min(x, axis=0)`
    """
    tie_break_left = return_indices_tie_break_left
    return _extremum("min", input, axis, return_indices, tie_break_left, keep_dims)


@builtin(method=True)
def argmax(
    input: Any,
    axis: Static[int],
    tie_break_left: Static[bool] = True,
    keep_dims: Static[bool] = False,
) -> Tensor:
    """Return the int32 index of the largest element along `axis`.

    Of equal elements it is the first one's, unless `tie_break_left` is False.

    Example: `choice = bl.argmax(scores, axis=0)`
    """
    return _extremum("argmax", input, axis, True, tie_break_left, keep_dims)[1]


@builtin(method=True)
def argmin(
    input: Any,
    axis: Static[int],
    tie_break_left: Static[bool] = True,
    keep_dims: Static[bool] = False,
) -> Tensor:
    """Return the int32 index of the smallest element along `axis`.

    Of equal elements it is the first one's, unless `tie_break_left` is False.

    Example: `nearest = bl.argmin(distances, axis=0)`
    """
    return _extremum("argmin", input, axis, True, tie_break_left, keep_dims)[1]


@builtin(method=True)
def xor_sum(input: Any, axis: Static[int | None] = None, keep_dims: Static[bool] = False) -> Tensor:
    """Return the exclusive or of all integers along `axis`, or of all elements.

    Example: `checksum = bl.xor_sum(words, axis=0)`
    """
    value = _numbers("xor_sum", input)
    if value.number.is_float:
        raise blame(
            "input",
            OperandType(
                operator="xor_sum",
                operand=describe(value),
                instead="reinterpret floats with .to(int32, bitcast=True)",
            ),
        )
    return reduction([value], axis, _elementwise(Xor), keep_dims)[0]


@builtin(method=True)
def reduce(input: Any, axis: Static[int], combine_fn: Any, keep_dims: Static[bool] = False) -> Any:
    """Combine all elements along `axis` (None: all of them) with `combine_fn`.

    `input` is a block or a tuple of blocks of one shape; with n blocks, `combine_fn` takes n left
    and n right elements and returns n. It is a function decorated with `@blocklang.jit`, or one of
    the language such as `bl.maximum`, and must be associative and commutative.

    Example: `product = bl.reduce(x, 0, multiply)`
    """
    given = input if isinstance(input, tuple) and input else (input,)
    blocks = shapes.broadcast(*(block("reduce", value) for value in given))

    def combine(left: Sequence[Tensor], right: Sequence[Tensor]) -> Sequence[Tensor]:
        returned = emission.session().call(combine_fn, [*left, *right], {})
        items = returned if isinstance(returned, tuple) else (returned,)
        expected = ", ".join(type_text(value.type) for value in left)
        found = describe(returned)
        if len(items) == len(left):
            items = tuple(tensor(item, "what the combine function gives") for item in items)
            if all(a.type == b.type for a, b in zip(items, left, strict=True)):
                return items
            found = ", ".join(type_text(item.type) for item in items)
        raise blame("combine_fn", BadCombine(found=found, expected=expected))

    results = reduction(blocks, axis, combine, keep_dims)
    return results if isinstance(input, tuple) else results[0]


@builtin(method=True)
def softmax(
    x: Any,
    dim: Static[int | None] = None,
    keep_dims: Static[bool] = False,
    ieee_rounding: Static[bool] = False,
) -> Tensor:
    """Return `exp(x) / sum(exp(x))` along `dim` (0 if left out), computed without overflow.

    Example: `p = bl.softmax(scores)`
    """
    float_operand("softmax", x, "x")
    value = block("softmax", x, "x")
    axis = normalize_axis(0 if dim is None else dim, len(value.shape), x, "dim")
    keep = len(value.shape) > 1
    largest = max_(value, axis, keep_dims=keep)
    exponential = BUILTINS["exp"](operators.binary("-", value, largest))
    total = sum_(exponential, axis, keep_dims=keep)
    return BUILTINS["fdiv"](exponential, total, ieee_rounding)
