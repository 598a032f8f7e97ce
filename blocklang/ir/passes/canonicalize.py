"""canonicalize: constant folding and algebraic simplification, by rules.

Constants go to the right of commutative ops, ops fold to an operand (`Op.fold`), pure elementwise
ops on constants are evaluated with their `evaluate`, dead branches and loops that never run
disappear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy

from blocklang.ir.builder import Builder, normalize
from blocklang.ir.core import Module, Operation, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import For, If
from blocklang.ir.ops.elementwise import (
    AddPointer,
    Bitcast,
    Cast,
    Compare,
    Divide,
    Elementwise,
    Maximum,
    Minimum,
    Remainder,
    ShiftLeft,
    ShiftRight,
)
from blocklang.ir.ops.memory import Load, Store
from blocklang.ir.ops.program import Splat, constant_value
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.rewrite import Replacement, Rule, rewrite, rule
from blocklang.ir.types import BlockType, DType, element_type

from .manager import Pass


@rule(Op)
def fold_to_operand(op: Op, builder: Builder) -> Replacement:
    """x + 0 -> x, x * 1 -> x, select(c, x, x) -> x, ...: whatever the op's `fold` knows."""
    if len(op.results) != 1 or not op.is_pure:
        return None
    return op.fold()


@rule(Elementwise)
def constant_to_the_right(op: Elementwise, builder: Builder) -> Replacement:
    """c + x -> x + c"""
    if not op.is_commutative or len(op.operands) != 2:
        return None
    left, right = op.operands
    if constant_value(left) is None or constant_value(right) is not None:
        return None
    swapped = type(op)(right, left, loc=op.loc, **op.attributes)
    return builder.insert(swapped).result


@rule(Elementwise)
def evaluate_constants(op: Elementwise, builder: Builder) -> Replacement:
    """op(c1, c2) -> c3"""
    known = [constant_value(v) for v in op.operands]
    values = [k for k in known if k is not None]
    result = op.results[0].type
    target = element_type(result)
    if len(values) < len(known) or isinstance(op, AddPointer) or not isinstance(target, DType):
        return None
    if _is_undefined(op, values):
        return None
    kinds = [element_type(v.type) for v in op.operands]
    arrays = [
        numpy.asarray(v, k.numpy)
        for v, k in zip(values, kinds, strict=True)
        if isinstance(k, DType)
    ]
    with numpy.errstate(all="ignore"):
        folded = _evaluate(op, arrays, target)
    return builder.constant(folded, result)


def _evaluate(op: Elementwise, arrays: list[numpy.ndarray], target: DType) -> int | float:
    if isinstance(op, Bitcast):
        return arrays[0].view(target.numpy)[()].item()  # type: ignore[no-any-return]
    if isinstance(op, Cast):
        value = arrays[0].item()
        if target.is_bool:
            return int(value != 0)
        return float(value) if target.is_float else normalize(int(value), target)
    extra = {"predicate": op.predicate} if isinstance(op, Compare) else {}
    if (
        isinstance(op, Minimum | Maximum)
        and op.propagate_nan
        and any(numpy.isnan(a) for a in arrays)
    ):
        return math.nan
    value = op.evaluate(*arrays, **extra)
    number = numpy.asarray(value).item()
    return number if isinstance(number, float) else int(number)


def _is_undefined(op: Elementwise, values: list[int | float]) -> bool:
    """Whether folding would have to choose a meaning for what has none."""
    kind = element_type(op.operands[0].type)
    assert isinstance(kind, DType) or isinstance(op, Bitcast)
    if isinstance(op, Divide | Remainder):
        return isinstance(values[1], int) and values[1] == 0
    if isinstance(op, ShiftLeft | ShiftRight):
        return not 0 <= values[1] < kind.bits
    if isinstance(op, Cast) and op.rounding != "rtne":
        return True
    if isinstance(op, Cast) and isinstance(values[0], float):
        target = element_type(op.results[0].type)
        assert isinstance(target, DType)
        is_number = math.isfinite(values[0]) and target.minimum <= values[0] <= target.maximum
        return target.is_integer and not target.is_bool and not is_number
    return False


@rule(Broadcast, ExpandDims, Reshape, Permute)
def shape_of_splat(op: Op, builder: Builder) -> Replacement:
    """broadcast(splat(x)) -> splat(x), and likewise for the other shape ops and constants"""
    source, target = op.operands[0], op.results[0].type
    known = constant_value(source)
    if known is not None:
        return builder.constant(known, target)
    if isinstance(source, Result) and isinstance(source.op, Splat):
        return builder.splat(source.op.value, target)
    return None


@rule(Elementwise)
def scalar_inside_splat(op: Elementwise, builder: Builder) -> Replacement:
    """op(splat(x), splat(y)) -> splat(op(x, y))"""
    result = op.results[0].type
    scalars = [_splatted(v) for v in op.operands]
    if not isinstance(result, BlockType) or not any(scalars):
        return None
    if not all(
        s is not None or constant_value(v) is not None
        for s, v in zip(scalars, op.operands, strict=True)
    ):
        return None
    operands = [
        s if s is not None else builder.constant(constant_value(v) or 0, element_type(v.type))
        for s, v in zip(scalars, op.operands, strict=True)
    ]
    names = [f.name for f in op.fields_of("operand")]
    scalar = type(op)(
        **dict(zip(names, operands, strict=True)),
        **op.attributes,
        loc=op.loc,
        result_types=[result.element],
    )
    return builder.splat(builder.insert(scalar).result, result)


def _splatted(value: Value) -> Value | None:
    is_splat = isinstance(value, Result) and isinstance(value.op, Splat)
    return value.op.value if is_splat else None  # type: ignore[union-attr]


@rule(Cast)
def cast_of_cast(op: Cast, builder: Builder) -> Replacement:
    """cast(cast(x: i1 or narrow integer) to wider) to T -> cast(x) to T, where the middle type
    holds every value
    """
    source = op.operand
    if not isinstance(source, Result) or not isinstance(source.op, Cast):
        return None
    first, middle = element_type(source.op.operand.type), element_type(source.type)
    assert isinstance(first, DType)
    assert isinstance(middle, DType)
    if not (first.is_integer and middle.is_integer and first.bits < middle.bits):
        return None
    if first.is_signed and not middle.is_signed:
        return None
    return builder.insert(
        Cast(source.op.operand, loc=op.loc, result_types=[op.results[0].type])
    ).result


@rule(Load)
def load_with_known_mask(op: Load, builder: Builder) -> Replacement:
    """load(p, true, other) -> load(p); load(p, false, other) -> other"""
    known = constant_value(op.mask)
    if known is None:
        return None
    if known == 0:
        return op.other if op.other is not None else builder.constant(0, op.accessed)
    attributes = dict(op.attributes)
    return builder.insert(Load(op.pointer, loc=op.loc, **attributes)).result


@rule(Store)
def store_with_known_mask(op: Store, builder: Builder) -> Replacement:
    """store(p, v, true) -> store(p, v); store(p, v, false) -> nothing"""
    known = constant_value(op.mask)
    if known is None:
        return None
    if known:
        builder.insert(Store(op.pointer, value=op.value, loc=op.loc, **op.attributes))
    return []


@rule(If)
def if_with_known_condition(op: If, builder: Builder) -> Replacement:
    """if true {A} else {B} -> A"""
    known = constant_value(op.condition)
    if known is None:
        return None
    return _splice(op.regions[0 if known else 1].block.ops, builder)


@rule(For)
def for_without_iterations(op: For, builder: Builder) -> Replacement:
    """for i in range(a, b) with a >= b -> the initial values"""
    lower, upper = constant_value(op.lower), constant_value(op.upper)
    if lower is None or upper is None or lower < upper:
        return None
    return list(op.initial)


def _splice(ops: list[Operation], builder: Builder) -> list[Value]:
    *body, terminator = list(ops)
    for inner in body:
        inner.detach()
        builder.insert(inner)
    return list(terminator.operands)


CANONICALIZATIONS: list[Rule] = [
    fold_to_operand, evaluate_constants, constant_to_the_right, shape_of_splat, scalar_inside_splat, cast_of_cast,
    load_with_known_mask, store_with_known_mask, if_with_known_condition, for_without_iterations,
]  # fmt: skip


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Fold constants and simplify by rules until nothing changes."""

    name: ClassVar[str] = "canonicalize"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            rewrite(function, CANONICALIZATIONS)
