"""Rewrites of the block IR that make it easier to compile for CPUs, before the plan is made.

1. A block of pointers or integers that a `for` loop carries only to advance it by a scalar
   (`pointers += BLOCK * stride`) becomes that scalar: what is loaded through it stays contiguous.
2. Narrow floats are converted before they are printed.
3. Factors of matrix products are converted to what is multiplied (`factors`).
"""

from __future__ import annotations

from collections.abc import Callable

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import For, Yield
from blocklang.ir.ops.debug import DevicePrint
from blocklang.ir.ops.elementwise import Add, AddPointer, Cast
from blocklang.ir.ops.program import Constant, Splat
from blocklang.ir.passes.expand_math import ExpandMath
from blocklang.ir.types import (
    BlockType,
    DType,
    PointerType,
    element_type,
    f32,
    i64,
    with_element,
)

from .factors import convert_factors


def prepare(module: Module, is_native: Callable[[type[Op], DType], bool]) -> None:
    """Rewrite the kernel of `module` in place; `is_native` is that of `expand-math`."""
    for op in list(module.walk()):
        if isinstance(op, For):
            _advance_by_scalars(op)
    prints = [op for op in module.walk() if isinstance(op, DevicePrint)]
    # No short cut: both rewrite the module.
    if any([convert_factors(module), *map(_widen, prints)]):
        ExpandMath(is_native)(module)


# ---------------------------------------------------------------- carried addresses


def _advance_by_scalars(op: For) -> None:
    """Replace carried blocks of rule 1 by scalars, one after the other."""
    index = 0
    while index < len(op.initial):
        steps = _steps(op, index)
        if steps:
            # The scalar comes last: the next value has the number of the one that is gone.
            op = _carry_scalar(op, index, steps)
        else:
            index += 1


def _steps(op: For, index: int) -> list[Value]:
    """The uniform blocks that an iteration adds to carried value number `index`; none if it does
    anything else to it.
    """
    argument = op.body.block.arguments[1 + index]
    value = op.body.block.terminator.operands[index]
    found: list[Value] = []
    kind = element_type(argument.type)
    # Sums of floats depend on their order.
    if not isinstance(argument.type, BlockType) or (isinstance(kind, DType) and kind.is_float):
        return []
    while value is not argument:
        if not isinstance(value, Result) or not isinstance(value.op, Add | AddPointer):
            return []
        value, step = value.op.operands
        if not isinstance(step, Result) or not isinstance(step.op, Splat | Constant):
            return []
        found.append(step)
    return found


def _carry_scalar(op: For, index: int, steps: list[Value]) -> For:
    """A copy of `op` that carries how far value number `index` has advanced."""
    block = op.body.block
    first = op.initial[index]
    kind = element_type(first.type)
    distance = i64 if isinstance(kind, PointerType) else kind
    assert isinstance(distance, DType)
    before = Builder.before(op)
    zero = before.constant(0, distance)
    argument = block.arguments[1 + index]
    inner = block.add_argument(distance, argument.loc, argument.name)
    start = Builder(block, 0, op.loc)
    argument.replace_all_uses_with(_advanced(start, first, inner))
    *_, terminator = block.ops
    end = Builder.before(terminator)
    total: Value = inner
    for step in steps:
        total = end.insert(Add(total, _scalar(end, step, distance), loc=end.loc)).result
    yielded = [v for i, v in enumerate(terminator.operands) if i != index]
    end.insert(Yield((*yielded, total), loc=terminator.loc))
    terminator.erase()
    block.remove_argument(1 + index)
    initial = [v for i, v in enumerate(op.initial) if i != index]
    regions, op.regions = op.regions, []
    new = before.insert(op.again((*initial, zero), regions))
    results = list(new.results)
    last = _advanced(before, first, results.pop())
    results.insert(index, last)  # type: ignore[arg-type]
    op.replace_with(results)
    return new


def _advanced(builder: Builder, first: Value, distance: Value) -> Value:
    """`first` plus a scalar."""
    assert isinstance(distance.type, DType)
    by = builder.splat(distance, with_element(first.type, distance.type))
    kind = AddPointer if isinstance(element_type(first.type), PointerType) else Add
    return builder.insert(kind(first, by, loc=builder.loc)).results[0]


def _scalar(builder: Builder, step: Value, distance: DType) -> Value:
    """The element of a uniform block, as an integer of type `distance`."""
    assert isinstance(step, Result)
    kind = element_type(step.type)
    if isinstance(step.op, Splat):
        value = step.op.value
    else:
        assert isinstance(step.op, Constant)
        value = builder.constant(step.op.value, kind)
    if kind == distance:
        return value
    return builder.insert(Cast(value, loc=builder.loc, result_types=[distance])).result


# ---------------------------------------------------------------- prints


def _widen(op: DevicePrint) -> bool:
    """Print f32 instead of narrower floats; whether there were any."""
    builder = Builder.before(op)
    has_changed = False
    for index, value in enumerate(op.operands):
        kind = element_type(value.type)
        if isinstance(kind, DType) and kind.is_float and kind.bits < 32:
            wide = with_element(value.type, f32)
            cast = builder.insert(Cast(value, loc=op.loc, result_types=[wide]))
            op.set_operand(index, cast.result)
            has_changed = True
    return has_changed
