"""Where a program stands in the grid, and what the author promises about values."""

from __future__ import annotations

from typing import Any

from blocklang.frontend import emission
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import tensor, truth
from blocklang.frontend.errors.operations import WrongHint
from blocklang.frontend.errors.types import NotACondition, WrongArgumentType
from blocklang.frontend.values import Tensor, describe
from blocklang.ir.ops.program import Assume, Hint, NumPrograms, ProgramId
from blocklang.ir.ops.shared import Barrier

from .registry import blame, builtin


def _axis(axis: Any, function: str) -> int:
    if isinstance(axis, int) and axis in (0, 1, 2):
        return int(axis)
    raise blame(
        "axis",
        WrongArgumentType(
            what=f"the axis of {function}()",
            expected="0, 1 or 2",
            found=describe(axis),
            instead="a grid has three axes at most",
        ),
    )


@builtin
def program_id(axis: Static[int]) -> Tensor:
    """Return the index of this program along `axis` (0, 1 or 2) of the grid, an int32.

    Example: `row = bl.program_id(0)`
    """
    return emission.emit(ProgramId(_axis(axis, "program_id"), loc=emission.location()))


@builtin
def num_programs(axis: Static[int]) -> Tensor:
    """Return the number of programs along `axis` (0, 1 or 2) of the grid, an int32.

    Example: `for row in range(bl.program_id(0), n_rows, bl.num_programs(0)):`
    """
    return emission.emit(NumPrograms(_axis(axis, "num_programs"), loc=emission.location()))


def _hint(function: str, field: str, input: Any, values: Any) -> Tensor:
    value = tensor(input, "the value of a hint")
    numbers = values if isinstance(values, tuple) else (values,)
    rank = max(1, len(value.shape))
    positive = all(type(n) is int and n > 0 for n in numbers)
    if len(numbers) != rank or not positive:
        expected = "one positive integer" if rank == 1 else f"{rank} positive integers"
        raise blame(
            "values",
            WrongHint(
                function=function,
                expected=expected,
                found=describe(value),
                values=list(numbers),
            ),
        )
    if value.known is not None:
        return value
    op = Hint(emission.ir(value), loc=emission.location())
    op.attributes[field] = numbers
    return emission.emit(op)


@builtin
def multiple_of(input: Any, values: Static[Any]) -> Tensor:
    """Return `input` with the promise that its first element, along each dimension, is a multiple.

    `values` is one positive integer, or one for each dimension. A false promise is undefined
    behaviour.

    Example: `start = bl.multiple_of(start, 128)`
    """
    return _hint("multiple_of", "divisibility", input, values)


@builtin
def max_contiguous(input: Any, values: Static[Any]) -> Tensor:
    """Return `input` with the promise that runs of so many elements are consecutive numbers.

    `values` is one positive integer, or one for each dimension. A false promise is undefined
    behaviour.

    Example: `rows = bl.max_contiguous(rows % n, 64)`
    """
    return _hint("max_contiguous", "contiguity", input, values)


@builtin
def max_constancy(input: Any, values: Static[Any]) -> Tensor:
    """Return `input` with the promise that runs of so many elements are equal.

    `values` is one positive integer, or one for each dimension. A false promise is undefined
    behaviour.

    Example: `group = bl.max_constancy(cols // 16, 16)`
    """
    return _hint("max_constancy", "constancy", input, values)


@builtin
def assume(cond: Any) -> None:
    """Promise that the scalar `cond` holds here; a false promise is undefined behaviour.

    Example: `bl.assume(stride > 0)`
    """
    condition = truth(tensor(cond, "the condition"))
    if condition.is_block:
        raise blame(
            "cond",
            NotACondition(found=describe(condition), instead="assume() takes a scalar"),
        )
    if condition.constant is not True:
        emission.builder().insert(Assume(emission.ir(condition), loc=emission.location()))


@builtin
def debug_barrier() -> None:
    """Make all threads of the program wait for each other: what one has written to memory before,
    all see after.

    Only needed where a program reads global memory that it has written itself through other
    elements; shared memory is the compiler's business.

    Example: `bl.debug_barrier()`
    """
    emission.builder().insert(Barrier(loc=emission.location()))
