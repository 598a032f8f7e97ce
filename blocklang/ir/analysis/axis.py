"""Axis analysis: contiguity, divisibility and constancy of every value along every axis.

It tells how wide memory accesses may be and over how many elements a mask is one and the same. It
works on the IR before and after layouts are assigned; what its numbers mean is in `axis_info.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from blocklang.ir.core import Argument, Function, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import For
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.types import BlockType, DType, element_type, shape_of

from . import axis_shapes  # noqa: F401  (registers its rules)
from .axis_info import (
    AxisInfo,
    axis_info,
    combine,
    join,
    least,
    power_of_two_divisor,
    uniform,
    unknown,
)
from .axis_rules import apply_rule
from .dataflow import ForwardAnalysis
from .ranges import RangeAnalysis, analyze_ranges

__all__ = ["AxisAnalysis", "AxisInfo", "analyze_axes"]

MAX_ACCESS_BYTES = 16


class AxisAnalysis:
    """The facts of all values of a function, and questions about them."""

    def __init__(self, info: Mapping[Value, AxisInfo]) -> None:
        self.info = info

    def vector_width(self, pointer: Value, axis: int, element_bytes: int) -> int:
        """How many elements along `axis` may be one access: contiguous and aligned, 16 bytes at
        most, a power of two that divides the block's size. 1 for a scalar.
        """
        info, shape = self.info[pointer], shape_of(pointer.type)
        if not shape:
            return 1
        run = min(info.contiguity[axis], power_of_two_divisor(shape[axis]))
        aligned = info.divisibility[axis] // element_bytes
        return max(1, min(run, aligned, MAX_ACCESS_BYTES // element_bytes))

    def mask_constancy(self, mask: Value, axis: int) -> int:
        """How long the aligned runs along `axis` are over which all elements of `mask` agree."""
        return self.info[mask].constancy[axis]


def analyze_axes(function: Function) -> AxisAnalysis:
    """Analyse a function.

    Arguments of kernels are taken at their facts: `divisible` is a divisor of an integer's value or
    of a pointer's address in bytes.
    """
    analysis = _Axes(function)
    analysis.run(function)
    return AxisAnalysis(analysis.facts)


class _Axes(ForwardAnalysis[AxisInfo]):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def argument(self, argument: Argument) -> AxisInfo:
        if "divisible" not in argument.facts:
            return unknown(argument.type)
        return uniform(argument.type, power_of_two_divisor(argument.facts["divisible"]))

    def unknown(self, value: Value) -> AxisInfo:
        return unknown(value.type)

    def transfer(self, op: Op) -> Sequence[AxisInfo]:
        return apply_rule(op, self._non_negative, [self.facts[v] for v in op.operands])

    @cached_property
    def _ranges(self) -> RangeAnalysis:
        return analyze_ranges(self.function, wraps=False)

    def _non_negative(self, value: Value) -> bool:
        return self._ranges.non_negative(value)

    def join(self, first: AxisInfo, second: AxisInfo, value: Value) -> AxisInfo:
        return join(value.type, first, second)

    def widen(self, before: AxisInfo, after: AxisInfo, value: Value) -> AxisInfo:
        def kept(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(n if n == o else 1 for o, n in zip(old, new, strict=True))

        runs = (
            kept(before.contiguity, after.contiguity),
            kept(before.constancy, after.constancy),
        )
        safe = combine(value.type, *runs, after)
        return axis_info(value.type, runs[0], kept(before.divisibility, safe.divisibility), runs[1])

    def loop_index(self, loop: For) -> AxisInfo:
        lower, step = self.facts[loop.lower], self.facts[loop.step]
        return uniform(loop.lower.type, min(lower.divisibility[0], step.divisibility[0]))

    def element(self, block: Value, element: Value) -> AxisInfo:
        info = self.facts[block]
        return uniform(element.type, info.everywhere, info.constant)

    def reduced(self, op: Reduce, index: int, element: AxisInfo) -> AxisInfo:
        type = op.results[index].type
        if not isinstance(type, BlockType):
            return element
        ones = (1,) * type.rank
        constancy = ones
        # Equal rows have equal sums only where the order of summation does not matter.
        if all(_is_integer(v) for v in op.inputs):
            rows = least(*(self.facts[v].constancy for v in op.inputs))
            kept = (1,) if op.is_partial else ()
            constancy = (*rows[: op.axis], *kept, *rows[op.axis + 1 :])
        if element.constant is not None:
            return uniform(type, element.divisibility[0], element.constant)
        return axis_info(type, ones, element.divisibility * type.rank, constancy)


def _is_integer(value: Value) -> bool:
    kind = element_type(value.type)
    return isinstance(kind, DType) and kind.is_integer
