"""Formulas as Python: an expression is a value with operators that insert ops.

    y = x * x + 1.0            # numbers become constants of the expression's type
    (x > 0.0).choose(y, -y)

All ops get the location of the builder. Shapes and layouts are those of the first value. Nothing
is simplified here; `canonicalize` and `cse` follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blocklang.ir.builder import Builder
from blocklang.ir.core import Value
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import (
    Absolute,
    Add,
    And,
    Bitcast,
    Cast,
    Ceil,
    Compare,
    Divide,
    Floor,
    FusedMultiplyAdd,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Or,
    Select,
    ShiftLeft,
    ShiftRight,
    Subtract,
    Xor,
)
from blocklang.ir.types import DTYPES, DType, element_type, with_element


class Expression:
    """A scalar or block value that a formula is about."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, value: Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def dtype(self) -> DType:
        """The element type."""
        kind = element_type(self.value.type)
        assert isinstance(kind, DType)
        return kind

    @property
    def same_width(self) -> DType:
        """The unsigned integer of the same width."""
        return DTYPES[f"u{self.dtype.bits}"]

    def constant(self, number: float) -> Expression:
        """A number of the same type."""
        return Expression(self.builder, self.builder.constant(number, self.value.type))

    def apply(self, op: type[Op], *others: Expression | float, **attributes: Any) -> Expression:
        """The op of that class on this expression and others."""
        values = [self.value, *(self._lift(other).value for other in others)]
        made = op(*values, **attributes, loc=self.builder.loc)
        return Expression(self.builder, self.builder.insert(made).result)

    def _lift(self, other: Expression | float) -> Expression:
        return other if isinstance(other, Expression) else self.constant(other)

    def __add__(self, other: Expression | float) -> Expression:
        return self.apply(Add, other)

    def __sub__(self, other: Expression | float) -> Expression:
        return self.apply(Subtract, other)

    def __rsub__(self, other: float) -> Expression:
        return self.constant(other) - self

    def __mul__(self, other: Expression | float) -> Expression:
        return self.apply(Multiply, other)

    def __truediv__(self, other: Expression | float) -> Expression:
        return self.apply(Divide, other)

    def __rtruediv__(self, other: float) -> Expression:
        return self.constant(other) / self

    def __neg__(self) -> Expression:
        return self.apply(Negate)

    def __abs__(self) -> Expression:
        return self.apply(Absolute)

    def __and__(self, other: Expression | float) -> Expression:
        return self.apply(And, other)

    def __or__(self, other: Expression | float) -> Expression:
        return self.apply(Or, other)

    def __xor__(self, other: Expression | float) -> Expression:
        return self.apply(Xor, other)

    def __lshift__(self, other: Expression | int) -> Expression:
        return self.apply(ShiftLeft, other)

    def __rshift__(self, other: Expression | int) -> Expression:
        return self.apply(ShiftRight, other)

    def __lt__(self, other: Expression | float) -> Expression:
        return self.apply(Compare, other, predicate="lt")

    def __le__(self, other: Expression | float) -> Expression:
        return self.apply(Compare, other, predicate="le")

    def __gt__(self, other: Expression | float) -> Expression:
        return self.apply(Compare, other, predicate="gt")

    def __ge__(self, other: Expression | float) -> Expression:
        return self.apply(Compare, other, predicate="ge")

    def equals(self, other: Expression | float) -> Expression:
        """Elementwise ==, as i1."""
        return self.apply(Compare, other, predicate="eq")

    def differs(self, other: Expression | float) -> Expression:
        """Elementwise !=, as i1; holds for a NaN."""
        return self.apply(Compare, other, predicate="ne")

    @property
    def is_nan(self) -> Expression:
        """Where this is no number."""
        return self.differs(self)

    def choose(self, then: Expression, otherwise: Expression | float) -> Expression:
        """`then` where this i1 holds, `otherwise` elsewhere."""
        other = otherwise if isinstance(otherwise, Expression) else then.constant(otherwise)
        made = Select(self.value, then.value, other.value, loc=self.builder.loc)
        return Expression(self.builder, self.builder.insert(made).result)

    def at_least(self, bound: Expression | float) -> Expression:
        """The larger one; a NaN becomes `bound`."""
        return self.apply(Maximum, bound)

    def at_most(self, bound: Expression | float) -> Expression:
        """The smaller one; a NaN becomes `bound`."""
        return self.apply(Minimum, bound)

    def fma(self, factor: Expression | float, addend: Expression | float) -> Expression:
        """self * factor + addend, rounded once."""
        return self.apply(FusedMultiplyAdd, factor, addend)

    def polynomial(self, coefficients: Sequence[float]) -> Expression:
        """The polynomial of this with those coefficients, lowest power first (Horner's scheme)."""
        *rest, last = coefficients
        total = self.constant(last)
        for coefficient in reversed(rest):
            total = total.fma(self, coefficient)
        return total

    def floor(self) -> Expression:
        """The integer below."""
        return self.apply(Floor)

    def ceil(self) -> Expression:
        """The integer above."""
        return self.apply(Ceil)

    def to(self, dtype: DType) -> Expression:
        """The same number in another dtype."""
        kind = with_element(self.value.type, dtype)
        made = Cast(self.value, loc=self.builder.loc, result_types=[kind])
        return Expression(self.builder, self.builder.insert(made).result)

    def bits(self, dtype: DType | None = None) -> Expression:
        """The same bits as another dtype, by default the unsigned integer of this width."""
        kind = with_element(self.value.type, dtype or self.same_width)
        made = Bitcast(self.value, loc=self.builder.loc, result_types=[kind])
        return Expression(self.builder, self.builder.insert(made).result)
