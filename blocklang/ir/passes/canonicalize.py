"""canonicalize: constant folding and algebraic simplification, by rules.

Constants go to the right of commutative ops, ops fold to an operand (`Op.fold`), pure elementwise
ops on constants are evaluated with their `evaluate`, dead branches and loops that never run
disappear, and what loops carry unchanged is read from before them. Rules keep types, layouts
included, so that the pass runs at every stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy

from blocklang.ir.builder import Builder
from blocklang.ir.compute import elementwise
from blocklang.ir.core import Function, Module, Operation, Result, Value
from blocklang.ir.exact import holds
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Condition, For, If, While
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import (
    Add,
    Binary,
    Bitcast,
    Cast,
    Compare,
    Divide,
    Elementwise,
    Maximum,
    Minimum,
    Negate,
    Not,
    Remainder,
    ShiftLeft,
    ShiftRight,
    Subtract,
    Xor,
)
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.ops.program import Splat, constant_value
from blocklang.ir.ops.shape import Broadcast, ConvertLayout, ExpandDims, Permute, Reshape
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
    kind: Any = type(op)
    swapped: Binary = kind(right, left, loc=op.loc, **op.attributes)
    return builder.insert(swapped).result


_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}
_INVERTED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}
_HOLDS_OF_EQUALS = ("eq", "le", "ge")


@rule(Compare)
def compared_constant_to_the_right(op: Compare, builder: Builder) -> Replacement:
    """c < x -> x > c"""
    if constant_value(op.left) is None or constant_value(op.right) is not None:
        return None
    mirrored = _MIRRORED[op.predicate]
    return builder.insert(Compare(op.right, op.left, mirrored, loc=op.loc)).result


@rule(Subtract, Xor, Compare, Minimum, Maximum)
def equal_operands(op: Binary, builder: Builder) -> Replacement:
    """x - x -> 0, x ^ x -> 0, x <= x -> true, x < x -> false (integers); minimum(x, x) -> x"""
    if op.left is not op.right:
        return None
    if isinstance(op, Minimum | Maximum):
        return op.left
    kind, result = element_type(op.left.type), op.results[0].type
    if not isinstance(kind, DType) or kind.is_float:
        return None
    holds_of_equals = isinstance(op, Compare) and op.predicate in _HOLDS_OF_EQUALS
    return builder.constant(int(holds_of_equals), result)


@rule(Negate, Not)
def twice_inverted(op: Negate, builder: Builder) -> Replacement:
    """-(-x) -> x, ~(~x) -> x"""
    inner = _definition(op.operand)
    return inner.operands[0] if type(inner) is type(op) else None


@rule(Not)
def inverted_comparison(op: Not, builder: Builder) -> Replacement:
    """not (x < y) -> x >= y, for floats only == and != (NaN)"""
    inner = _definition(op.operand)
    if not isinstance(inner, Compare):
        return None
    kind = element_type(inner.left.type)
    is_float = isinstance(kind, DType) and kind.is_float
    if is_float and inner.predicate not in ("eq", "ne"):
        return None
    inverted = _INVERTED[inner.predicate]
    return builder.insert(Compare(inner.left, inner.right, inverted, loc=op.loc)).result


def _definition(value: Value) -> Operation | None:
    return value.op if isinstance(value, Result) else None


@rule(Elementwise)
def evaluate_constants(op: Elementwise, builder: Builder) -> Replacement:
    """op(c1, c2) -> c3"""
    known = [constant_value(v) for v in op.operands]
    values = [k for k in known if k is not None]
    result = op.results[0].type
    if len(values) < len(known) or not isinstance(element_type(result), DType):
        return None
    if _is_undefined(op, values):
        return None
    kinds = [element_type(v.type) for v in op.operands]
    arrays = [
        numpy.asarray(v, k.numpy)
        for v, k in zip(values, kinds, strict=True)
        if isinstance(k, DType)
    ]
    folded = numpy.asarray(elementwise(op, arrays)).item()
    # A constant has no NaN of certain bits.
    is_lost = isinstance(op, Bitcast) and folded != folded
    return None if is_lost else builder.constant(folded, result)


def _is_undefined(op: Elementwise, values: list[int | float]) -> bool:
    """Whether folding would have to choose a meaning for what has none."""
    kind = element_type(op.operands[0].type)
    assert isinstance(kind, DType) or isinstance(op, Bitcast)
    if isinstance(op, Divide | Remainder):
        return isinstance(values[1], int) and values[1] == 0
    if isinstance(op, ShiftLeft | ShiftRight):
        return not 0 <= values[1] < kind.bits
    if isinstance(op, Cast) and isinstance(values[0], float):
        target = element_type(op.results[0].type)
        assert isinstance(target, DType)
        is_number = math.isfinite(values[0]) and target.minimum <= values[0] <= target.maximum
        return target.is_integer and not target.is_bool and not is_number
    return False


@rule(Broadcast, ExpandDims, Reshape, Permute, ConvertLayout)
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
    sources = [_definition(v) for v in op.operands]
    known = [constant_value(v) for v in op.operands]
    is_same = [isinstance(s, Splat) or k is not None for s, k in zip(sources, known, strict=True)]
    if not isinstance(result, BlockType) or not all(is_same) or None not in known:
        return None
    operands = [
        builder.constant(number, element_type(value.type)) if number is not None else scalar
        for value, number in zip(op.operands, known, strict=True)
        for scalar in [_splatted(value)]
    ]
    kind: Any = type(op)
    scalar = kind(*operands, loc=op.loc, result_types=[result.element], **op.attributes)
    return builder.splat(builder.insert(scalar).result, result)


def _splatted(value: Value) -> Value | None:
    source = _definition(value)
    return source.value if isinstance(source, Splat) else None


@rule(Cast)
def cast_of_cast(op: Cast, builder: Builder) -> Replacement:
    """cast(cast(x) to T) to U -> cast(x) to U, where T holds every number of the type of x"""
    source = _definition(op.operand)
    if not isinstance(source, Cast):
        return None
    first, middle = element_type(source.operand.type), element_type(source.result.type)
    assert isinstance(first, DType)
    assert isinstance(middle, DType)
    if not holds(middle, first):
        return None
    types = [op.results[0].type]
    made = Cast(source.operand, op.rounding, loc=op.loc, result_types=types)
    return builder.insert(made).result


@rule(Add)
def sum_of_product(op: Add, builder: Builder) -> Replacement:
    """x + dot(a, b, 0) -> dot(a, b, x), where nothing else uses the product"""
    for value, other in ((op.left, op.right), (op.right, op.left)):
        product = _definition(value)
        if not isinstance(product, Dot) or product.instruction or len(value.uses) != 1:
            continue
        if constant_value(product.acc) == 0:
            made = Dot(product.a, product.b, other, loc=op.loc, **product.attributes)
            return builder.insert(made).result
    return None


@rule(Load)
def load_with_known_mask(op: Load, builder: Builder) -> Replacement:
    """load(p, true, other) -> load(p); load(p, false, other) -> other"""
    known = constant_value(op.mask)
    if known is None:
        return None
    if known:
        return builder.insert(Load(op.pointer, loc=op.loc, **op.attributes)).result
    if op.other is not None:
        return op.other
    is_number = isinstance(element_type(op.accessed), DType)
    return builder.constant(0, op.accessed) if is_number else None


@rule(Store)
def store_with_known_mask(op: Store, builder: Builder) -> Replacement:
    """store(p, v, true) -> store(p, v); store(p, v, false) -> nothing"""
    known = constant_value(op.mask)
    if known is None:
        return None
    if known:
        builder.insert(Store(op.pointer, value=op.value, loc=op.loc, **op.attributes))
    return []


@rule(AtomicRMW)
def atomic_with_known_mask(op: AtomicRMW, builder: Builder) -> Replacement:
    """atomic(p, v, true) -> atomic(p, v)"""
    if not constant_value(op.mask):
        return None
    made = AtomicRMW(op.pointer, value=op.value, loc=op.loc, **op.attributes)
    return builder.insert(made).result


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


@rule(For)
def for_with_one_iteration(op: For, builder: Builder) -> Replacement:
    """for i in range(a, b, c) with a < b <= a + c -> the body with i = a"""
    bounds = [constant_value(v) for v in (op.lower, op.upper, op.step)]
    lower, upper, step = (b if b is not None else math.nan for b in bounds)
    if not lower < upper <= lower + step:
        return None
    for argument, value in zip(op.body.block.arguments, (op.lower, *op.initial), strict=True):
        argument.replace_all_uses_with(value)
    return _splice(op.body.block.ops, builder)


def _splice(ops: list[Operation], builder: Builder) -> list[Value]:
    *body, terminator = list(ops)
    for inner in body:
        inner.detach()
        builder.insert(inner)
    return list(terminator.operands)


CANONICALIZATIONS: list[Rule] = [
    fold_to_operand,
    evaluate_constants,
    constant_to_the_right,
    compared_constant_to_the_right,
    equal_operands,
    twice_inverted,
    inverted_comparison,
    shape_of_splat,
    scalar_inside_splat,
    cast_of_cast,
    sum_of_product,
    load_with_known_mask,
    store_with_known_mask,
    atomic_with_known_mask,
    if_with_known_condition,
    for_without_iterations,
    for_with_one_iteration,
]


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Fold constants and simplify by rules until nothing changes."""

    name: ClassVar[str] = "canonicalize"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _forward_unchanged(function)
            rewrite(function, CANONICALIZATIONS)


def _forward_unchanged(function: Function) -> None:
    """What a loop carries without changing it is what it was before the loop.

    Inner loops first, whose results outer ones carry. `dce` removes what is carried for nobody.
    """
    for op in reversed(list(function.walk())):
        if not isinstance(op, For | While):
            continue
        blocks = [region.block for region in op.regions]
        for index, before in enumerate(op.initial):
            carried = [b.arguments[len(b.arguments) - len(op.results) + index] for b in blocks]
            ends = [b.terminator for b in blocks]
            handed = [t.operands[index + isinstance(t, Condition)] for t in ends]
            if all(value is before or value in carried for value in handed):
                for value in (*carried, op.results[index]):
                    value.replace_all_uses_with(before)
