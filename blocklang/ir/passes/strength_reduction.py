"""strength-reduction: integer multiplication, division and remainder by powers of two become shifts
and masks.

Truncating division rounds toward zero and a shift down, so signed division and remainder change
only where range analysis finds the dividend not negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis.ranges import analyze_ranges
from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module, Value
from blocklang.ir.ops.elementwise import (
    And,
    Binary,
    Divide,
    Multiply,
    Remainder,
    ShiftLeft,
    ShiftRight,
)
from blocklang.ir.ops.program import constant_value
from blocklang.ir.rewrite import Replacement, Rule, rewrite
from blocklang.ir.types import DType, element_type

from .manager import Pass


@dataclass(frozen=True)
class StrengthReduction(Pass):
    """Replace integer arithmetic by cheaper one."""

    name: ClassVar[str] = "strength-reduction"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            rules = _Rules(function)
            rewrite(
                function,
                [
                    Rule((Multiply,), rules.shift_left),
                    Rule((Divide,), rules.shift_right),
                    Rule((Remainder,), rules.mask),
                ],
            )


class _Rules:
    """The rules for a function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.not_negative: set[Value] | None = None
        """The values that are known not to be negative; None before a rule asks for them."""

    def shift_left(self, op: Multiply, builder: Builder) -> Replacement:
        """x * 2**k -> x << k"""
        exponent = _exponent(op.right)
        return None if exponent is None else self.replace(op, ShiftLeft, exponent, builder)

    def shift_right(self, op: Divide, builder: Builder) -> Replacement:
        """x / 2**k -> x >> k for x >= 0"""
        exponent = _exponent(op.right)
        if exponent is None or not self.is_not_negative(op.left):
            return None
        return self.replace(op, ShiftRight, exponent, builder)

    def mask(self, op: Remainder, builder: Builder) -> Replacement:
        """x % 2**k -> x & (2**k - 1) for x >= 0"""
        exponent = _exponent(op.right)
        if exponent is None or not self.is_not_negative(op.left):
            return None
        return self.replace(op, And, (1 << exponent) - 1, builder)

    def replace(self, op: Binary, kind: type[Binary], number: int, builder: Builder) -> Value:
        """`kind` of the left operand and a number; it lies where the result of `op` lay."""
        right = builder.constant(number, op.right.type)
        made: Value = builder.insert(kind(op.left, right, loc=op.loc)).results[0]
        # Before somebody asks: the analysis will meet what has been made.
        if self.not_negative is not None and op.result in self.not_negative:
            self.not_negative.add(made)
        return made

    def is_not_negative(self, value: Value) -> bool:
        """Whether no element of an integer value is below 0."""
        kind = element_type(value.type)
        if isinstance(kind, DType) and not kind.is_signed:
            return True
        if self.not_negative is None:
            ranges = analyze_ranges(self.function).ranges
            self.not_negative = {v for v, known in ranges.items() if known and known.low >= 0}
        return value in self.not_negative


def _exponent(value: Value) -> int | None:
    """k if every element of `value` is the integer 2**k, k > 0."""
    number = constant_value(value)
    if not isinstance(number, int) or number < 2 or number & (number - 1):
        return None
    return number.bit_length() - 1
