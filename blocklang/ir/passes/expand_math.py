"""expand-math: rewrites elementwise ops that the target lacks into ops that it has.

`is_native(op, dtype)` says what the target executes on elements of `dtype`; it is asked about the
first operand's dtype. Operations on integers are taken for native. Rules, to a fixpoint:

- functions of f32 and f64 become formulas (`blocklang/ir/expansions`): exp2, log2 and what is made
  of them where these are native, polynomials elsewhere;
- operations on narrower floats are computed in f32 and rounded once (the sum of an fma twice);
  signs change on the bits;
- conversions: `is_native(Cast, a) and is_native(Cast, b)` promises those between integers, between
  integers and floats of 16 bits or more, f32 and f64, f32 and f16, f32 and bf16, and f32 or f16
  and 8-bit floats, rounding to nearest even. No other pair is left, whatever `is_native` says: it
  goes through f32, rounded to odd where the second step would round again. Rounding toward zero
  is a correction of rounding to nearest; casts that cannot lose bits of a float forget their
  `rounding`. i1 is asked for like other dtypes; without it casts become comparisons and choices.

An op that is not native and has no expansion stays, for the code generator to report. Every new op
has the location of the op that it replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module
from blocklang.ir.exact import holds
from blocklang.ir.expansions import (
    arithmetic,
    conversion,
    error_function,
    exponential,
    logarithm,
    trigonometric,
)
from blocklang.ir.expansions.expression import Expression
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import (
    Absolute,
    Bitcast,
    Cast,
    Cos,
    Elementwise,
    Erf,
    Exp,
    Exp2,
    Log,
    Log2,
    Negate,
    Remainder,
    Rsqrt,
    Sin,
    Tanh,
)
from blocklang.ir.rewrite import Replacement, Rule, rewrite
from blocklang.ir.types import DType, bf16, element_type, f16, f32, f64, with_element

from .manager import Pass

FORMULAS: dict[type[Op], Callable[..., Expression]] = {
    Exp: exponential.exp,
    Exp2: exponential.exp2,
    Log: logarithm.log,
    Log2: logarithm.log2,
    Tanh: exponential.tanh,
    Sin: trigonometric.sin,
    Cos: trigonometric.cos,
    Erf: error_function.erf,
    Rsqrt: arithmetic.rsqrt,
    Remainder: arithmetic.remainder,
}
"""Expansions for f32 and f64, from the op's operands to its result."""

SHORT_FORMULAS: dict[type[Op], tuple[type[Op], Callable[..., Expression]]] = {
    Exp: (Exp2, exponential.exp_by_exp2),
    Log: (Log2, logarithm.log_by_log2),
}
"""Expansions that are better where another op is native."""

ON_BITS: dict[type[Op], Callable[..., Expression]] = {
    Negate: arithmetic.negate,
    Absolute: arithmetic.absolute,
}
"""Expansions for floats narrower than f32."""


def is_basic(op: type[Op], dtype: DType) -> bool:
    """What every target has: f32 and f64 without functions, and integers."""
    return dtype.is_integer or (dtype.bits >= 32 and op not in FORMULAS)


@dataclass(frozen=True)
class ExpandMath(Pass):
    """Expand what the target lacks."""

    is_native: Callable[[type[Op], DType], bool] = is_basic

    name: ClassVar[str] = "expand-math"

    def _run(self, module: Module) -> None:
        rules = [
            Rule((Cast,), self.expand_cast),
            Rule(tuple(FORMULAS), self.expand_function),
            Rule((Elementwise,), self.expand_narrow),
        ]
        for function in module.functions.values():
            rewrite(function, rules)

    def expand_function(self, op: Elementwise, builder: Builder) -> Replacement:
        """exp(x: f32) -> exp2(x * log2(e)), or polynomials"""
        dtype = _dtype(op)
        if dtype not in (f32, f64) or self.is_native(type(op), dtype):
            return None
        needed, short = SHORT_FORMULAS.get(type(op), (None, None))
        has_short = needed is not None and self.is_native(needed, dtype)
        formula = short if short is not None and has_short else FORMULAS[type(op)]
        return formula(*(Expression(builder, v) for v in op.operands)).value

    def expand_narrow(self, op: Elementwise, builder: Builder) -> Replacement:
        """op(x: bf16) -> cast(op(cast(x to f32)) to bf16)"""
        dtype = _dtype(op)
        if isinstance(op, Cast | Bitcast) or dtype is None or not _is_narrow(dtype):
            return None
        if self.is_native(type(op), dtype):
            return None
        operands = [Expression(builder, v) for v in op.operands]
        if type(op) in ON_BITS:
            return ON_BITS[type(op)](*operands).value
        first, *others = (x.to(f32) for x in operands)
        wide = first.apply(type(op), *others, **op.attributes)
        return wide.to(dtype).value if wide.dtype is f32 else wide.value

    def expand_cast(self, op: Cast, builder: Builder) -> Replacement:
        """cast(x: f64 to bf16) -> cast(round_to_odd(x) to bf16), bits for other formats, ..."""
        source, target = _dtype(op), element_type(op.results[0].type)
        assert source is not None
        assert isinstance(target, DType)
        x = Expression(builder, op.operand)
        if op.rounding == "rtz":
            loses = source.is_float and target.is_float and not holds(target, source)
            return (conversion.toward_zero(x, target) if loses else x.to(target)).value
        if source is target or self._is_native_cast(source, target):
            return None
        if target.is_bool:
            return x.differs(0.0 if source.is_float else 0).value
        if source.is_bool:
            one = builder.constant(1, with_element(op.operand.type, target))
            return x.choose(Expression(builder, one), 0).value
        if not (_is_narrow(source) or _is_narrow(target)):
            return None
        if not source.is_float:
            return _from_integer(x, target).value
        return (_between_floats(x, target) if target.is_float else x.to(f32).to(target)).value

    def _is_native_cast(self, source: DType, target: DType) -> bool:
        if not (self.is_native(Cast, source) and self.is_native(Cast, target)):
            return False
        if not (_is_narrow(source) or _is_narrow(target)):
            return True
        narrow, other = sorted((source, target), key=lambda d: (not d.is_float, d.bits))
        if narrow.is_float8:
            return other in (f16, f32)
        return other is f32 or other.is_integer


def _between_floats(x: Expression, target: DType) -> Expression:
    if x.dtype is f32:
        return conversion.narrow(x, target)
    if target is f32:
        return conversion.widen(x)
    if x.dtype is f64:
        return conversion.round_to_odd(x).to(target)
    return x.to(f32).to(target)


def _from_integer(x: Expression, target: DType) -> Expression:
    # Integers that f32 would round are beyond f16 and the 8-bit floats anyway.
    if x.dtype.bits <= 16 or target is not bf16:
        return x.to(f32).to(target)
    return conversion.integer_to_float64(x).to(target)


def _is_narrow(dtype: DType) -> bool:
    return dtype.is_float and dtype.bits < 32


def _dtype(op: Elementwise) -> DType | None:
    """The dtype of the first operand's elements; None for pointers."""
    kind = element_type(op.operands[0].type)
    return kind if isinstance(kind, DType) else None
