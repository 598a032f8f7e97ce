"""How each op turns what is known of its operands along each axis into what is known of its result.

An op without a rule: an elementwise op gives equal results for equal operands, of others nothing
is known. A rule takes the op, `non_negative` (whether an integer value is known not to be
negative) and the facts of all operands. What the words mean is in `axis_info.py`.

One assumption is made, the one that every kernel makes: signed indices of 32 or more bits do not
overflow before they are widened, added to a pointer, divided or reduced by a remainder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from blocklang.ir.builder import normalize
from blocklang.ir.core import Value
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import (
    Absolute,
    Add,
    AddPointer,
    And,
    Bitcast,
    Cast,
    Compare,
    Divide,
    Elementwise,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Not,
    Or,
    Remainder,
    Select,
    ShiftLeft,
    ShiftRight,
    Subtract,
    Xor,
)
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import Arange, Constant, Hint, Splat
from blocklang.ir.types import DType, PointerType, Type, element_type

from .axis_info import (
    AxisInfo,
    axis_info,
    combine,
    least,
    most,
    padded,
    power_of_two_divisor,
    uniform,
    unknown,
)

NonNegative = Callable[[Value], bool]
RULES: dict[type[Op], Callable[..., AxisInfo]] = {}
AnyRule = TypeVar("AnyRule", bound=Callable[..., AxisInfo])


def axis_rule(*kinds: type[Op]) -> Callable[[AnyRule], AnyRule]:
    """Make a function the rule of these ops."""

    def register(rule: AnyRule) -> AnyRule:
        RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def apply_rule(op: Op, non_negative: NonNegative, operands: list[AxisInfo]) -> list[AxisInfo]:
    """The facts of the results of `op`."""
    if type(op) in RULES:
        return [RULES[type(op)](op, non_negative, *operands)]
    if isinstance(op, Elementwise):
        return [_only_constancy(op.result.type, *operands)]
    return [unknown(result.type) for result in op.results]


def _only_constancy(type: Type, *operands: AxisInfo) -> AxisInfo:
    ones = (1,) * len(padded(type))
    return axis_info(type, ones, ones, least(*(x.constancy for x in operands)))


def _aligned(x: AxisInfo, type: Type) -> tuple[int, ...]:
    """Along each axis a run that starts at a multiple of its length, so that it does not wrap."""
    kind = element_type(type)
    assert isinstance(kind, DType)
    period = 1 << (kind.bits - kind.is_signed)
    return tuple(min(c, d, period) for c, d in zip(x.contiguity, x.divisibility, strict=True))


def _tiles(x: AxisInfo, y: AxisInfo, type: Type) -> tuple[int, ...]:
    """Along each axis a run over which `x` counts up from a multiple of the run's length while `y`
    stays one and the same multiple of it.
    """
    return least(_aligned(x, type), y.divisibility, y.constancy)


def _ones(x: AxisInfo) -> tuple[int, ...]:
    return (1,) * x.rank


# ---------------------------------------------------------------- sources


@axis_rule(Constant)
def _constant(op: Constant, _: NonNegative) -> AxisInfo:
    if not isinstance(op.value, int):
        return uniform(op.result.type, 1)
    return uniform(op.result.type, power_of_two_divisor(op.value), op.value)


@axis_rule(Splat)
def _splat(op: Splat, _: NonNegative, x: AxisInfo) -> AxisInfo:
    return uniform(op.result.type, x.divisibility[0], x.constant)


@axis_rule(Arange)
def _arange(op: Arange, _: NonNegative) -> AxisInfo:
    type = op.result.type
    return axis_info(type, padded(type), (power_of_two_divisor(op.start),), (1,))


@axis_rule(Hint)
def _hint(op: Hint, _: NonNegative, x: AxisInfo) -> AxisInfo:
    # Not made by axis_info: a divisibility that is promised before the contiguity to which it
    # belongs says nothing about other axes.
    sizes = padded(op.result.type)

    def promised(numbers: tuple[int, ...]) -> tuple[int, ...]:
        whole = zip(numbers, sizes, strict=True)
        return tuple(n if m >= n else power_of_two_divisor(m) for m, n in whole) or _ones(x)

    contiguity = most(x.contiguity, promised(op.contiguity)) if op.contiguity else x.contiguity
    constancy = most(x.constancy, promised(op.constancy)) if op.constancy else x.constancy
    divisibility = tuple(x.divisor(axis, run) for axis, run in enumerate(contiguity))
    if op.divisibility:
        divisibility = most(divisibility, map(power_of_two_divisor, op.divisibility))
    return AxisInfo(contiguity, divisibility, constancy, x.constant, x.unit)


@axis_rule(Load)
def _load(op: Load, _: NonNegative, *operands: AxisInfo) -> AxisInfo:
    # Without `other`, what is masked off may differ from element to element.
    if op.volatile or (op.mask is not None and op.other is None):
        return unknown(op.result.type)
    return _only_constancy(op.result.type, *operands)


# ---------------------------------------------------------------- arithmetic


@axis_rule(Add)
def _add(op: Add, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    contiguity = most(least(x.contiguity, y.constancy), least(x.constancy, y.contiguity))
    return combine(op.result.type, contiguity, least(x.constancy, y.constancy), x, y)


@axis_rule(Subtract)
def _subtract(op: Subtract, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    # The difference of two runs is constant.
    constancy = most(least(x.constancy, y.constancy), least(x.contiguity, y.contiguity))
    return combine(op.result.type, least(x.contiguity, y.constancy), constancy, x, y)


@axis_rule(Multiply)
def _multiply(op: Multiply, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    if x.constant == 1 or y.constant == 1:
        return y if x.constant == 1 else x
    constancy = least(x.constancy, y.constancy)
    divisibility = [x.divisor(a, run) * y.divisor(a, run) for a, run in enumerate(constancy)]
    return axis_info(op.result.type, _ones(x), divisibility, constancy)


@axis_rule(Divide)
def _divide(op: Divide, non_negative: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    constancy = least(x.constancy, y.constancy)
    kind = element_type(op.left.type)
    if not (isinstance(kind, DType) and kind.is_integer):
        return _only_constancy(op.result.type, x, y)
    if y.constant == 1:
        return x
    # Truncation: the quotients of -16 and -15 by 16 differ, those of 16 and 17 do not.
    if non_negative(op.left):
        constancy = most(constancy, _tiles(x, y, op.left.type))
    return _quotient(op.result.type, x, abs(y.constant or 0), constancy)


def _quotient(type: Type, x: AxisInfo, divisor: int, constancy: tuple[int, ...]) -> AxisInfo:
    if divisor.bit_count() != 1:
        divisor = 1 << 64
    divisibility = [max(x.divisor(a, run) // divisor, 1) for a, run in enumerate(constancy)]
    return axis_info(type, _ones(x), divisibility, constancy)


@axis_rule(Remainder)
def _remainder(op: Remainder, non_negative: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    kind = element_type(op.left.type)
    if not (isinstance(kind, DType) and kind.is_integer):
        return _only_constancy(op.result.type, x, y)
    # The remainders of -16 and -15 by 16 are 0 and -15.
    contiguity = _tiles(x, y, op.left.type) if non_negative(op.left) else _ones(x)
    return combine(op.result.type, contiguity, least(x.constancy, y.constancy), x, y)


@axis_rule(Minimum, Maximum)
def _extremum(op: Minimum | Maximum, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    # Of two runs one is below the other throughout.
    contiguity = least(_aligned(x, op.left.type), _aligned(y, op.left.type))
    return combine(op.result.type, contiguity, least(x.constancy, y.constancy), x, y)


@axis_rule(Negate, Absolute)
def _negate(op: Negate | Absolute, _: NonNegative, x: AxisInfo) -> AxisInfo:
    return combine(op.result.type, _ones(x), x.constancy, x)


# ---------------------------------------------------------------- bits


@axis_rule(And)
def _and(op: And, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    type = op.result.type
    contiguity = _ones(x)
    for run, mask in ((x, y), (y, x)):
        if mask.constant is not None:
            ones = power_of_two_divisor(mask.constant + 1)
            contiguity = most(contiguity, (min(n, ones) for n in _aligned(run, type)))
    constancy = most(least(x.constancy, y.constancy), _tiles(x, y, type), _tiles(y, x, type))
    divisibility = [
        max(x.divisor(axis, max(runs)), y.divisor(axis, max(runs)))
        for axis, runs in enumerate(zip(contiguity, constancy, strict=True))
    ]
    return axis_info(type, contiguity, divisibility, constancy)


@axis_rule(Or, Xor)
def _or(op: Or | Xor, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    # The low bits count up on one side and are 0 on the other.
    contiguity = most(_tiles(x, y, op.result.type), _tiles(y, x, op.result.type))
    return combine(op.result.type, contiguity, least(x.constancy, y.constancy), x, y)


@axis_rule(Not)
def _not(op: Not, _: NonNegative, x: AxisInfo) -> AxisInfo:
    return _only_constancy(op.result.type, x)


@axis_rule(ShiftLeft)
def _shift_left(op: ShiftLeft, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    if y.constant == 0:
        return x
    constancy = least(x.constancy, y.constancy)
    amount = y.constant if y.constant is not None and 0 < y.constant < 64 else 0
    divisibility = [x.divisor(axis, run) << amount for axis, run in enumerate(constancy)]
    return axis_info(op.result.type, _ones(x), divisibility, constancy)


@axis_rule(ShiftRight)
def _shift_right(op: ShiftRight, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    if y.constant is None or not 0 <= y.constant < 64:
        return _only_constancy(op.result.type, x, y)
    if y.constant == 0:
        return x
    divisor = 1 << y.constant
    runs = (min(n, divisor) for n in _aligned(x, op.left.type))
    return _quotient(op.result.type, x, divisor, most(x.constancy, runs))


# ---------------------------------------------------------------- comparison and choice

_SWAPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


@axis_rule(Compare)
def _compare(op: Compare, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    constancy = least(x.constancy, y.constancy)
    type = op.left.type
    kind = element_type(type)
    if isinstance(kind, DType) and kind.is_integer:
        if op.predicate in _SWAPPED:
            together = least(_aligned(x, type), _aligned(y, type))
            left = _against_constant(op.predicate, x, y, type)
            right = _against_constant(_SWAPPED[op.predicate], y, x, type)
            constancy = most(constancy, together, left, right)
        else:
            constancy = most(constancy, least(x.contiguity, y.contiguity))
    return axis_info(op.result.type, _ones(x), _ones(x), constancy)


def _against_constant(predicate: str, x: AxisInfo, y: AxisInfo, type: Type) -> tuple[int, ...]:
    """Runs over which the comparison of contiguous `x` with constant `y` is constant.

    x < y changes where x reaches y: never inside a run that starts at a multiple of its length if
    y is such a multiple too. x <= y is x < y + 1.
    """
    if predicate in ("lt", "ge"):
        return _tiles(x, y, type)
    if y.constant is None:
        return _ones(x)
    return _tiles(x, uniform(type, power_of_two_divisor(y.constant + 1)), type)


@axis_rule(Select)
def _select(
    op: Select, _: NonNegative, condition: AxisInfo, then: AxisInfo, otherwise: AxisInfo
) -> AxisInfo:
    if condition.constant is not None:
        return then if condition.constant else otherwise
    contiguity = least(condition.constancy, then.contiguity, otherwise.contiguity)
    constancy = least(condition.constancy, then.constancy, otherwise.constancy)
    return combine(op.result.type, contiguity, constancy, then, otherwise)


# ---------------------------------------------------------------- conversion and pointers


def _widened(x: AxisInfo, type: Type) -> AxisInfo:
    """`x` extended to more bits: a run may have wrapped around."""
    kind = element_type(type)
    assert isinstance(kind, DType)
    if kind.bits >= 32 and kind.is_signed:
        return x
    contiguity = _aligned(x, type)
    divisibility = tuple(x.divisor(axis, run) for axis, run in enumerate(contiguity))
    return replace(x, contiguity=contiguity, divisibility=divisibility)


@axis_rule(Cast)
def _cast(op: Cast, _: NonNegative, x: AxisInfo) -> AxisInfo:
    type = op.result.type
    source, target = element_type(op.operand.type), element_type(type)
    if not (isinstance(source, DType) and isinstance(target, DType)):
        return unknown(type)
    if source.is_float or target.is_float or (target.is_bool and not source.is_bool):
        return _only_constancy(type, x)
    if target.bits > source.bits:
        x = _widened(x, op.operand.type)
    constant = None if x.constant is None else int(normalize(x.constant, target))
    return axis_info(type, x.contiguity, x.divisibility, x.constancy, constant)


@axis_rule(Bitcast)
def _bitcast(op: Bitcast, _: NonNegative, x: AxisInfo) -> AxisInfo:
    type = op.result.type
    source, target = element_type(op.operand.type), element_type(type)
    if any(isinstance(kind, DType) and kind.is_float for kind in (source, target)):
        return _only_constancy(type, x)
    same_kind = isinstance(source, PointerType) == isinstance(target, PointerType)
    if not (same_kind and x.unit == unknown(type).unit):
        return combine(type, _ones(x), x.constancy, x)
    constant: Any = x.constant
    if isinstance(target, DType) and constant is not None:
        constant = normalize(constant, target)
    return axis_info(type, x.contiguity, x.divisibility, x.constancy, constant)


@axis_rule(AddPointer)
def _add_pointer(op: AddPointer, _: NonNegative, x: AxisInfo, y: AxisInfo) -> AxisInfo:
    y = _widened(y, op.offset.type)
    bytes = replace(y, divisibility=tuple(d * x.unit for d in y.divisibility), unit=x.unit)
    contiguity = most(least(x.contiguity, y.constancy), least(x.constancy, y.contiguity))
    return combine(op.result.type, contiguity, least(x.constancy, y.constancy), x, bytes)
