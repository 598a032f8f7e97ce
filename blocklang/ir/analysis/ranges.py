"""Range analysis: between which integers every element of a value lies.

Integers wrap around at the width of their type: where the exact result of an op may lie outside
its type, nothing is claimed. With `wraps=False` signed integers of 32 or more bits are taken not
to overflow; that is no fact but the assumption of the axis analysis, which says so.

Conditions are used where they rule: `assume` from its place to the end of its region (and for the
whole life of values that the region defines, since there it always executes), the condition of an
`if` in its branches, that of a `while` in its body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from blocklang.ir.core import Argument, Function, Region, Result, Value, is_inside
from blocklang.ir.op import Op
from blocklang.ir.ops import elementwise as e
from blocklang.ir.ops.control import Condition, For, If, While
from blocklang.ir.ops.program import Arange, Assume, Constant, Hint, NumPrograms, ProgramId, Splat
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import ShapeOp
from blocklang.ir.types import DType, Type, element_type

from . import intervals
from .dataflow import ForwardAnalysis
from .intervals import Range

__all__ = ["Range", "RangeAnalysis", "analyze_ranges"]

LARGEST_GRID = (1 << 31) - 1

# Ops whose exact result may leave the type, and ops whose result never does.
_EXACT: dict[type[Op], Callable[..., Range]] = {
    e.Add: intervals.add,
    e.Subtract: intervals.subtract,
    e.Multiply: intervals.multiply,
    e.Negate: intervals.negate,
    e.Absolute: intervals.absolute,
    e.ShiftLeft: intervals.shift_left,
}
_CLOSED: dict[type[Op], Callable[..., Range | None]] = {
    e.Divide: intervals.divide,
    e.Remainder: intervals.remainder,
    e.Minimum: intervals.minimum,
    e.Maximum: intervals.maximum,
    e.And: intervals.bit_and,
    e.Or: intervals.bit_or,
    e.Xor: intervals.bit_xor,
    e.ShiftRight: intervals.shift_right,
}
_OPPOSITE = {"lt": "ge", "ge": "lt", "le": "gt", "gt": "le", "eq": "ne", "ne": "eq"}


class RangeAnalysis:
    """The ranges of all values of a function, and questions about them."""

    def __init__(self, ranges: Mapping[Value, Range | None]) -> None:
        self.ranges = ranges

    def __getitem__(self, value: Value) -> Range | None:
        """The range of an integer value (its type's where nothing is known); None for others."""
        return self.ranges[value]

    def non_negative(self, value: Value) -> bool:
        """Whether no element of an integer value is below 0."""
        known = self.ranges[value]
        return known is not None and known.low >= 0

    def never_overflows(self, op: Op) -> bool:
        """Whether the exact result of integer arithmetic always fits its type."""
        exact = _exact(op, [self.ranges[v] for v in op.operands])
        full = full_range(op.results[0].type)
        return exact is not None and full is not None and full.includes(exact)


def analyze_ranges(function: Function, wraps: bool = True) -> RangeAnalysis:
    """Analyse a function; arguments of kernels are taken at their facts `minimum` and `maximum`."""
    analysis = _Ranges(wraps)
    analysis.run(function)
    return RangeAnalysis(analysis.facts)


def full_range(type: Type) -> Range | None:
    """All values of an integer type (or of the elements of a block); None for other types."""
    kind = element_type(type)
    return _numbers(kind) if isinstance(kind, DType) and kind.is_integer else None


@cache
def _numbers(kind: DType) -> Range:
    return Range(int(kind.minimum), int(kind.maximum))


def _exact(op: Op, operands: Sequence[Range | None]) -> Range | None:
    rule = _EXACT.get(type(op))
    known = [r for r in operands if r is not None]
    if rule is None or len(known) < len(operands):
        return None
    if isinstance(op, e.ShiftLeft):
        known[1] = _amount(op, known[1])
    return rule(*known)


def _amount(op: Op, amount: Range) -> Range:
    """How far an op may shift: by less than the width, or it is undefined."""
    kind = element_type(op.results[0].type)
    assert isinstance(kind, DType)
    return amount.meet(Range(0, kind.bits - 1)) or Range(0, kind.bits - 1)


class _Ranges(ForwardAnalysis[Range | None]):
    def __init__(self, wraps: bool) -> None:
        super().__init__()
        self.wraps = wraps
        self.refined: list[dict[Value, Range | None]] = [{}]

    def argument(self, argument: Argument) -> Range | None:
        full = full_range(argument.type)
        if full is None:
            return None
        facts = argument.facts
        given = Range(facts.get("minimum", full.low), facts.get("maximum", full.high))
        return full.meet(given) or full

    def unknown(self, value: Value) -> Range | None:
        return full_range(value.type)

    def join(self, first: Range | None, second: Range | None, value: Value) -> Range | None:
        return None if first is None or second is None else first.join(second)

    def widen(self, before: Range | None, after: Range | None, value: Value) -> Range | None:
        full = full_range(value.type)
        if before is None or after is None or full is None:
            return full
        low = after.low if after.low == before.low else 0 if after.low >= 0 else full.low
        return Range(low, after.high if after.high == before.high else full.high)

    def loop_index(self, loop: For) -> Range | None:
        lower, upper = self.facts[loop.lower], self.facts[loop.upper]
        if lower is None or upper is None:
            return full_range(loop.lower.type)
        return Range(lower.low, max(lower.low, upper.high - 1))

    def element(self, block: Value, element: Value) -> Range | None:
        return self.facts[block]

    def reduced(self, op: Reduce, index: int, element: Range | None) -> Range | None:
        return element

    # --- Ops ---

    def transfer(self, op: Op) -> Sequence[Range | None]:
        if len(op.results) != 1:
            return [full_range(r.type) for r in op.results]
        full = full_range(op.results[0].type)
        if full is None:
            return [None]
        return [self._result(op, full)]

    def _result(self, op: Op, full: Range) -> Range:
        operands = [self.facts[v] for v in op.operands]
        exact = _exact(op, operands)
        if exact is not None:
            return self._fitted(exact, full, op)
        if type(op) in _CLOSED:
            known = [r for r in operands if r is not None]
            if isinstance(op, e.ShiftRight):
                known[1] = _amount(op, known[1])
            # The most negative integer divided by -1 is the one quotient that does not fit.
            return self._fitted(_CLOSED[type(op)](*known) or full, full, op)
        match op:
            case Constant():
                return Range(int(op.value), int(op.value))
            case Arange():
                return Range(op.start, max(op.start, op.end - 1))
            case ProgramId():
                return Range(0, LARGEST_GRID - 1)
            case NumPrograms():
                return Range(1, LARGEST_GRID)
            case e.Compare():
                return self._comparison(op.predicate, operands)
            case e.Select():
                return self._choice(operands) or full
            case e.Not():
                return self._not(operands[0], full)
            case e.Cast() | e.Bitcast():
                return self._converted(operands[0], full)
            case Splat() | Hint() | ShapeOp():
                return operands[0] or full
        return full

    def _fitted(self, exact: Range, full: Range, op: Op) -> Range:
        if full.includes(exact):
            return exact
        kind = element_type(op.results[0].type)
        assert isinstance(kind, DType)
        if self.wraps or not kind.is_signed or kind.bits < 32:
            return full
        return exact.meet(full) or full

    def _comparison(self, predicate: str, operands: Sequence[Range | None]) -> Range:
        x, y = operands
        known = None if x is None or y is None else intervals.compare(predicate, x, y)
        return Range(0, 1) if known is None else Range(int(known), int(known))

    def _choice(self, operands: Sequence[Range | None]) -> Range | None:
        condition, then, otherwise = operands
        if condition is not None and condition.low == condition.high:
            return then if condition.low else otherwise
        return then.join(otherwise) if then is not None and otherwise is not None else None

    def _not(self, x: Range | None, full: Range) -> Range:
        # ~x is -1 - x, which for unsigned integers is the largest one minus x.
        if x is None:
            return full
        return intervals.subtract(Range(full.low + full.high, full.low + full.high), x)

    def _converted(self, x: Range | None, full: Range) -> Range:
        if x is None:
            return full
        if full == Range(0, 1):
            return Range(int(0 not in x), int(x != Range(0, 0)))
        return x if full.includes(x) else full

    # --- Conditions ---

    def after(self, op: Op) -> None:
        if isinstance(op, Assume):
            self._believe(op.condition, True)

    def enter(self, op: Op, region: Region) -> None:
        self.refined.append({})
        if isinstance(op, If):
            self._believe(op.condition, region is op.regions[0])
        if isinstance(op, While) and region is op.regions[1]:
            condition = op.regions[0].block.terminator
            assert isinstance(condition, Condition)
            self._believe(condition.condition, True)
            for argument, value in zip(region.block.arguments, condition.values, strict=True):
                self.facts[argument] = self.facts[value]

    def leave(self, op: Op, region: Region) -> None:
        for value, known in self.refined.pop().items():
            if not _is_defined_in(value, region):
                self.facts[value] = known

    def _believe(self, condition: Value, holds: bool) -> None:
        """Narrow the operands of a comparison, or of several joined by `and` (`or` if false)."""
        if not isinstance(condition, Result):
            return
        op = condition.op
        if isinstance(op, e.And if holds else e.Or):
            for value in op.operands:
                self._believe(value, holds)
        elif isinstance(op, e.Not):
            self._believe(op.operand, not holds)
        elif isinstance(op, e.Compare):
            x, y = self.facts[op.left], self.facts[op.right]
            if x is None or y is None:
                return
            predicate = op.predicate if holds else _OPPOSITE[op.predicate]
            narrowed = intervals.refine(predicate, x, y)
            if narrowed is not None:
                self._narrow(op.left, narrowed[0])
                self._narrow(op.right, narrowed[1])

    def _narrow(self, value: Value, known: Range) -> None:
        self.refined[-1].setdefault(value, self.facts[value])
        self.facts[value] = known


def _is_defined_in(value: Value, region: Region) -> bool:
    if isinstance(value, Result):
        return is_inside(value.op, region)
    assert isinstance(value, Argument)
    owner = value.block.region
    return owner is region or (
        owner is not None and owner.op is not None and is_inside(owner.op, region)
    )
