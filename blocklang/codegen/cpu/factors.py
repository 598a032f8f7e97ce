"""Makes the factors of matrix products what a CPU multiplies: f32, f64 or i32 in all operands.

Conversions and the rounding to tf32 become ops of the IR, right after the factor is computed: there
they are fused with what else is computed, and leave loops with it. A tf32x3 product is made without
rounding, which is cheaper here and at least as exact. Sums in f16 are made in f32 and rounded.
"""

from __future__ import annotations

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Value
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Add, And, Bitcast, Cast, Compare, Select
from blocklang.ir.types import DType, element_type, f16, f32, u32, with_element


def convert_factors(module: Module) -> bool:
    """Rewrite the products of `module`; whether there were any."""
    converter = _Converter()
    dots = [op for op in module.walk() if isinstance(op, Dot)]
    for op in dots:
        converter.rewrite(op)
    return bool(dots)


class _Converter:
    def __init__(self) -> None:
        self._made: dict[tuple[Value, DType, bool], Value] = {}

    def rewrite(self, op: Dot) -> None:
        """Replace `op` by a product of converted factors."""
        total = element_type(op.acc.type)
        assert isinstance(total, DType)
        wide = f32 if total == f16 else total
        rounds = op.precision == "tf32" and element_type(op.a.type) == f32
        a, b = (self._factor(value, wide, rounds, op) for value in (op.a, op.b))
        builder = Builder.before(op)
        acc = _cast(builder, op.acc, wide)
        made = builder.insert(Dot(a, b, acc, "ieee", loc=op.loc)).result
        op.replace_with([_cast(builder, made, total)])

    def _factor(self, value: Value, kind: DType, rounds: bool, op: Dot) -> Value:
        key = value, kind, rounds
        if key not in self._made:
            builder = Builder.behind(value)
            builder.loc = op.loc
            wide = _cast(builder, value, kind)
            self._made[key] = _round_to_tf32(builder, wide) if rounds else wide
        return self._made[key]


def _cast(builder: Builder, value: Value, kind: DType) -> Value:
    if element_type(value.type) == kind:
        return value
    type = with_element(value.type, kind)
    return builder.insert(Cast(value, loc=builder.loc, result_types=[type])).result


def _round_to_tf32(builder: Builder, value: Value) -> Value:
    """float32 with 10 bits of mantissa, to nearest, ties away from zero; NaNs stay."""
    bits, loc = with_element(value.type, u32), builder.loc
    word = builder.insert(Bitcast(value, loc=loc, result_types=[bits])).result
    half, kept = builder.constant(0x1000, bits), builder.constant(0xFFFFE000, bits)
    word = builder.insert(Add(word, half, loc=loc)).result
    word = builder.insert(And(word, kept, loc=loc)).result
    rounded = builder.insert(Bitcast(word, loc=loc, result_types=[value.type])).result
    is_number = builder.insert(Compare(value, value, "eq", loc=loc)).result
    return builder.insert(Select(is_number, rounded, value, loc=loc)).result
