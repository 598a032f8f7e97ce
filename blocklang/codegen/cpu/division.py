"""Division of integers, which must not bring the process down.

A division by zero is undefined, but many a kernel divides by zero in elements that a mask will
discard: that is harmless on GPUs and kills a process on CPUs. So divisors that trap are replaced.
CPUs have no vector division of integers either; up to 32 bits the quotient of doubles is exact
after truncation.
"""

from __future__ import annotations

from blocklang.codegen.elementwise import INTEGERS, element
from blocklang.codegen.lower import lowers
from blocklang.ir.ops.elementwise import Divide, Remainder
from blocklang.ir.ops.program import constant_value
from blocklang.ir.types import DType, Type, f64, i1, with_element

from .emitter import CpuEmitter


@lowers(Divide, on=("cpu",), dtypes=INTEGERS)
def _(e: CpuEmitter, op: Divide) -> str:
    kind = element(op.left.type)
    if _by_doubles(e, op, kind):
        return _quotient(e, op, kind)
    word = "sdiv" if kind.is_signed else "udiv"
    return e.emit(f"{word} {e.type(op.left.type)} {e[op.left]}, {_divisor(e, op, kind)}")


@lowers(Remainder, on=("cpu",), dtypes=INTEGERS)
def _(e: CpuEmitter, op: Remainder) -> str:
    kind, vector = element(op.left.type), e.type(op.left.type)
    if _by_doubles(e, op, kind):
        product = e.emit(f"mul {vector} {_quotient(e, op, kind)}, {e[op.right]}")
        return e.emit(f"sub {vector} {e[op.left]}, {product}")
    word = "srem" if kind.is_signed else "urem"
    return e.emit(f"{word} {vector} {e[op.left]}, {_divisor(e, op, kind)}")


def _by_doubles(e: CpuEmitter, op: Divide | Remainder, kind: DType) -> bool:
    # LLVM multiplies instead of dividing by a constant.
    is_vector = e.lanes(op.left.type) is not None
    return is_vector and 8 <= kind.bits <= 32 and constant_value(op.right) is None


def _divisor(e: CpuEmitter, op: Divide | Remainder, kind: DType) -> str:
    """The divisor, or 1 where dividing would trap; MIN / -1 is MIN, as when integers wrap."""
    vector, divisor = e.type(op.left.type), e[op.right]
    traps = e.emit(f"icmp eq {vector} {divisor}, {e.constant(0, op.left.type)}")
    if kind.is_signed:
        masks = e.type(with_element(op.left.type, i1))
        lowest = e.constant(kind.minimum, op.left.type)
        is_lowest = e.emit(f"icmp eq {vector} {e[op.left]}, {lowest}")
        is_minus = e.emit(f"icmp eq {vector} {divisor}, {e.constant(-1, op.left.type)}")
        both = e.emit(f"and {masks} {is_lowest}, {is_minus}")
        traps = e.emit(f"or {masks} {traps}, {both}")
    return _choose(e, op.left.type, traps, e.constant(1, op.left.type), divisor)


def _quotient(e: CpuEmitter, op: Divide | Remainder, kind: DType) -> str:
    vector = e.type(op.left.type)
    doubles = e.type(with_element(op.left.type, f64))
    letter = "s" if kind.is_signed else "u"
    left, right = (
        e.emit(f"{letter}itofp {vector} {e[v]} to {doubles}") for v in (op.left, op.right)
    )
    real = e.emit(f"fdiv {doubles} {left}, {right}")
    quotient = e.emit(f"fpto{letter}i {doubles} {real} to {vector}")
    if not kind.is_signed:
        return quotient
    # The only quotient that does not fit is MIN / -1.
    is_minus = e.emit(f"icmp eq {vector} {e[op.right]}, {e.constant(-1, op.left.type)}")
    negated = e.emit(f"sub {vector} {e.constant(0, op.left.type)}, {e[op.left]}")
    return _choose(e, op.left.type, is_minus, negated, quotient)


def _choose(e: CpuEmitter, type: Type, condition: str, then: str, otherwise: str) -> str:
    masks, vector = e.type(with_element(type, i1)), e.type(type)
    return e.emit(f"select {masks} {condition}, {vector} {then}, {vector} {otherwise}")
