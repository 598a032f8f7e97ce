"""What it costs to compute a value again: the measure for keeping it in memory instead.

The unit is one vector instruction for each chunk. Values that change steadily along every dimension
(indices, addresses, what comes from scalars) cost nothing, because one of them stands for a chunk.
"""

from __future__ import annotations

from blocklang.ir.core import Result, Value
from blocklang.ir.ops.elementwise import Divide, Elementwise, Remainder, Sqrt
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import constant_value
from blocklang.ir.ops.shape import Broadcast
from blocklang.ir.types import BlockType, DType, element_type

from .places import dimension_places, inline_operands
from .strides import VARIES, Strides

_LOAD, _GATHER, _STORED, _SLOW, _DIVISION, _MOST = 2, 16, 1, 6, 20, 10_000
_WORTH_KEEPING = 6


class Costs:
    """Costs of the values of one function, found on demand."""

    def __init__(self, strides: Strides) -> None:
        self.strides = strides
        self._costs: dict[Value, int] = {}
        self._loads: dict[Value, bool] = {}

    def of(self, value: Value) -> int:
        """The cost of computing `value` from memory, arguments and reductions."""
        if value not in self._costs:
            self._costs[value] = min(self._find(value), _MOST)
        return self._costs[value]

    def is_worth_keeping(self, value: Value) -> bool:
        """Whether storing the value and loading it costs less than computing it again."""
        return self.of(value) > _WORTH_KEEPING

    def is_gather(self, load: Load) -> bool:
        """Whether a load finds its elements one by one."""
        return VARIES in self.strides.of(load.pointer)[-1:]

    def has_load(self, value: Value) -> bool:
        """Whether computing the value element by element reads global memory."""
        if value not in self._loads:
            operands = _inline(value)
            reads = isinstance(value, Result) and isinstance(value.op, Load) and bool(operands)
            self._loads[value] = isinstance(value.type, BlockType) and (
                reads or any(self.has_load(v) for v in operands)
            )
        return self._loads[value]

    def may_cross(self, value: Value) -> bool:
        """Whether a value from outside a loop or branch is best computed again inside, from its
        `dear_parts`.
        """
        return not self.has_load(value) and not self.is_worth_keeping(value)

    def dear_parts(self, value: Value) -> list[Value]:
        """The smaller blocks of which `value` is made that are better stored."""
        found: dict[Value, None] = {}
        pending, seen = [value], {value}
        while pending:
            value = pending.pop()
            is_repeated = isinstance(value, Result) and isinstance(value.op, Broadcast)
            for operand in _inline(value):
                if is_repeated and self.is_worth_keeping(operand):
                    found[operand] = None
                elif operand not in seen:
                    seen.add(operand)
                    pending.append(operand)
        return list(found)

    def _find(self, value: Value) -> int:
        if not isinstance(value.type, BlockType) or self.strides.is_regular(value):
            return 0
        operands = sum(self.of(v) for v in _inline(value))
        if isinstance(value, Result) and isinstance(value.op, Broadcast):
            # What is dear and smaller has been stored, once for all.
            return min(operands, _STORED)
        if isinstance(value, Result) and isinstance(value.op, Load):
            return operands + (_GATHER if self.is_gather(value.op) else _LOAD)
        if not isinstance(value, Result) or not isinstance(value.op, Elementwise):
            return operands or _STORED
        return operands + _cost_of(value.op)


def _cost_of(op: Elementwise) -> int:
    if isinstance(op, Divide | Remainder):
        kind = element_type(op.result.type)
        is_integer = isinstance(kind, DType) and kind.is_integer
        return _DIVISION if is_integer and constant_value(op.right) is None else _SLOW
    return _SLOW if isinstance(op, Sqrt) else 1


def _inline(value: Value) -> list[Value]:
    if not isinstance(value, Result) or not isinstance(value.type, BlockType):
        return []
    places = inline_operands(value.op, dimension_places(value.type.shape))
    return [v for v, _ in places] if places is not None else []
