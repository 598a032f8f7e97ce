"""Elementwise ops: arithmetic, comparison, bits, math functions, conversions.

Operands of an op have the same shape and layout (broadcasting is explicit). Every class says how
to compute its result with NumPy (`evaluate`): constant folding and the reference evaluator are
made of it. Classes with a `language` name become functions of the language by themselves; `domain`
says which dtypes they take: "float", "integer" or "number".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy

from blocklang.ir.core import Value
from blocklang.ir.exact import fused_multiply_add
from blocklang.ir.op import IRError, Op, attribute, operand, output, require
from blocklang.ir.types import (
    DType,
    PointerType,
    Type,
    element_type,
    i1,
    shape_of,
    with_element,
)

from .program import constant_value, is_constant


class Elementwise(Op):
    """Base: one result, every operand of the result's shape."""

    language: ClassVar[str | None] = None
    domain: ClassVar[str] = "number"

    def infer(self) -> list[Type]:
        return [self.operands[0].type]

    def check(self) -> None:
        types = [v.type for v in self.operands]
        require(all(shape_of(t) == shape_of(types[0]) for t in types), "operands have one shape")
        require(len({getattr(t, "layout", None) for t in types}) == 1, "operands have one layout")
        kind = element_type(types[0])
        if self.domain != "number" and isinstance(kind, DType):
            require(
                kind.is_float == (self.domain == "float"),
                f"{self.mnemonic} takes {self.domain} operands",
            )

    evaluate: ClassVar[Any]
    """The result on NumPy arrays (or scalars) of the operands' dtypes."""


class Unary(Elementwise):
    """One operand; the result has its type."""

    operand: Value = operand()
    result = output()


class Binary(Elementwise):
    """Two operands of one type; the result has it too."""

    left: Value = operand()
    right: Value = operand()
    result = output()

    def check(self) -> None:
        super().check()
        require(self.left.type == self.right.type, "both operands have one type")


class FloatUnary(Unary):
    """A function of one float."""

    domain = "float"


# ---------------------------------------------------------------- arithmetic


class Add(Binary, mnemonic="add", commutative=True):
    """x + y; integers wrap around."""

    evaluate = staticmethod(numpy.add)

    def fold(self) -> Value | None:
        zero = -0.0 if _is_float(self) else 0
        return self.left if is_constant(self.right, zero) else None


class Subtract(Binary, mnemonic="sub"):
    """x - y; integers wrap around."""

    evaluate = staticmethod(numpy.subtract)

    def fold(self) -> Value | None:
        return self.left if is_constant(self.right, 0) else None


class Multiply(Binary, mnemonic="mul", commutative=True):
    """x * y; integers wrap around."""

    evaluate = staticmethod(numpy.multiply)

    def fold(self) -> Value | None:
        if is_constant(self.right, 1):
            return self.left
        return self.right if not _is_float(self) and is_constant(self.right, 0) else None


class Divide(Binary, mnemonic="div"):
    """x / y: floats divide; integers truncate toward zero. Integer division by zero is undefined.

    Only a `precise` float32 quotient is correctly rounded everywhere; GPUs may else be 2 ulp off.
    """

    precise: bool = attribute(default=False)

    @staticmethod
    def evaluate(x: Any, y: Any) -> Any:
        if numpy.issubdtype(numpy.asarray(x).dtype, numpy.integer):
            quotient = numpy.floor_divide(x, y)
            return quotient + ((quotient < 0) & (quotient * y != x)).astype(quotient.dtype)
        return numpy.divide(x, y)

    def fold(self) -> Value | None:
        return self.left if is_constant(self.right, 1) else None


class Remainder(Binary, mnemonic="rem"):
    """x - trunc(x / y) * y, with the sign of x. An integer remainder by zero is undefined."""

    evaluate = staticmethod(numpy.fmod)


class Negate(Unary, mnemonic="neg"):
    """-x; integers wrap around."""

    evaluate = staticmethod(numpy.negative)


class Absolute(Unary, mnemonic="abs"):
    """The absolute value; the most negative integer stays itself."""

    language = "abs"
    evaluate = staticmethod(numpy.abs)


class Minimum(Binary, mnemonic="minimum", commutative=True):
    """The smaller of x and y. A NaN loses against a number unless `propagate_nan`."""

    propagate_nan: bool = attribute(default=False)
    evaluate = staticmethod(numpy.fmin)


class Maximum(Binary, mnemonic="maximum", commutative=True):
    """The larger of x and y. A NaN loses against a number unless `propagate_nan`."""

    propagate_nan: bool = attribute(default=False)
    evaluate = staticmethod(numpy.fmax)


class FusedMultiplyAdd(Elementwise, mnemonic="fma"):
    """x * y + z with a single rounding."""

    domain = "float"
    x: Value = operand()
    y: Value = operand()
    z: Value = operand()
    result = output()

    evaluate = staticmethod(fused_multiply_add)


# ---------------------------------------------------------------- bits


class IntegerBinary(Binary):
    """A function of two integers."""

    domain = "integer"


class And(IntegerBinary, mnemonic="and", commutative=True):
    """x & y, bit by bit."""

    evaluate = staticmethod(numpy.bitwise_and)

    def fold(self) -> Value | None:
        if is_constant(self.right, 0):
            return self.right
        return self.left if self.left is self.right or _is_all_ones(self.right) else None


class Or(IntegerBinary, mnemonic="or", commutative=True):
    """x | y, bit by bit."""

    evaluate = staticmethod(numpy.bitwise_or)

    def fold(self) -> Value | None:
        if _is_all_ones(self.right):
            return self.right
        return self.left if self.left is self.right or is_constant(self.right, 0) else None


class Xor(IntegerBinary, mnemonic="xor", commutative=True):
    """x ^ y, bit by bit."""

    evaluate = staticmethod(numpy.bitwise_xor)

    def fold(self) -> Value | None:
        return self.left if is_constant(self.right, 0) else None


class Not(Unary, mnemonic="not"):
    """~x, bit by bit."""

    domain = "integer"
    evaluate = staticmethod(numpy.invert)


class ShiftLeft(IntegerBinary, mnemonic="shl"):
    """x << y. Shifting by the width or more is undefined."""

    evaluate = staticmethod(numpy.left_shift)

    def fold(self) -> Value | None:
        return self.left if is_constant(self.right, 0) else None


class ShiftRight(IntegerBinary, mnemonic="shr"):
    """x >> y: copies of the sign enter for signed x, zeros for unsigned. Shifting by the width or
    more is undefined.
    """

    evaluate = staticmethod(numpy.right_shift)

    def fold(self) -> Value | None:
        return self.left if is_constant(self.right, 0) else None


# ---------------------------------------------------------------- comparison and choice

_PREDICATES: dict[str, Callable[[Any, Any], Any]] = {
    "eq": numpy.equal,
    "ne": numpy.not_equal,
    "lt": numpy.less,
    "le": numpy.less_equal,
    "gt": numpy.greater,
    "ge": numpy.greater_equal,
}


class Compare(Binary, mnemonic="compare"):
    """x `predicate` y ("eq", "ne", "lt", "le", "gt", "ge") as i1. With a NaN only "ne" holds."""

    predicate: str = attribute()

    def infer(self) -> list[Type]:
        return [with_element(self.left.type, i1)]

    def check(self) -> None:
        super().check()
        require(self.predicate in _PREDICATES, f"unknown predicate {self.predicate}")

    @staticmethod
    def evaluate(x: Any, y: Any, predicate: str = "eq") -> Any:
        return _PREDICATES[predicate](x, y)


class Select(Elementwise, mnemonic="select"):
    """`then` where `condition` (an i1) holds, `otherwise` elsewhere."""

    condition: Value = operand()
    then: Value = operand()
    otherwise: Value = operand()
    result = output()
    evaluate = staticmethod(numpy.where)

    def infer(self) -> list[Type]:
        return [self.then.type]

    def check(self) -> None:
        super().check()
        require(element_type(self.condition.type) == i1, "condition is an i1")
        require(self.then.type == self.otherwise.type, "both choices have one type")

    def fold(self) -> Value | None:
        if self.then is self.otherwise:
            return self.then
        known = constant_value(self.condition)
        return None if known is None else self.then if known else self.otherwise


# ---------------------------------------------------------------- conversion


class Cast(Elementwise, mnemonic="cast"):
    """The same number in another dtype.

    Floats round to nearest even (`rounding` "rtne") or toward zero ("rtz") and overflow to
    infinity (float8e4nv has none: it saturates); floats become integers by truncation; integers
    keep their low bits; anything becomes i1 by `!= 0`.
    """

    operand: Value = operand()
    rounding: str = attribute(default="rtne")
    result = output()

    def infer(self) -> list[Type]:
        raise IRError("a cast needs its result type")

    def fold(self) -> Value | None:
        return self.operand if self.results[0].type == self.operand.type else None

    def check(self) -> None:
        require(
            shape_of(self.operand.type) == shape_of(self.results[0].type), "a cast keeps the shape"
        )
        require(self.rounding in ("rtne", "rtz"), f"unknown rounding {self.rounding}")


class Bitcast(Elementwise, mnemonic="bitcast"):
    """The same bits as another type of the same width; also between pointers and 64-bit
    integers.
    """

    operand: Value = operand()
    result = output()

    def infer(self) -> list[Type]:
        raise IRError("a bitcast needs its result type")

    def fold(self) -> Value | None:
        return self.operand if self.results[0].type == self.operand.type else None

    def check(self) -> None:
        source, target = element_type(self.operand.type), element_type(self.results[0].type)
        require(
            shape_of(self.operand.type) == shape_of(self.results[0].type),
            "a bitcast keeps the shape",
        )
        require(source.bits == target.bits, f"a bitcast keeps the width ({source} to {target})")


class AddPointer(Elementwise, mnemonic="add_pointer"):
    """`pointer` advanced by `offset` elements (an integer of any width, sign-extended)."""

    pointer: Value = operand()
    offset: Value = operand()
    result = output()

    def check(self) -> None:
        super().check()
        require(
            isinstance(element_type(self.pointer.type), PointerType),
            "the first operand is a pointer",
        )
        kind = element_type(self.offset.type)
        require(isinstance(kind, DType) and kind.is_integer, "the offset is an integer")

    def fold(self) -> Value | None:
        return self.pointer if is_constant(self.offset, 0) else None


# ---------------------------------------------------------------- math


class Exp(FloatUnary, mnemonic="exp"):
    """e raised to the power x."""

    language = "exp"
    evaluate = staticmethod(numpy.exp)


class Exp2(FloatUnary, mnemonic="exp2"):
    """2 raised to the power x."""

    language = "exp2"
    evaluate = staticmethod(numpy.exp2)


class Log(FloatUnary, mnemonic="log"):
    """The natural logarithm; minus infinity at 0, NaN below."""

    language = "log"
    evaluate = staticmethod(numpy.log)


class Log2(FloatUnary, mnemonic="log2"):
    """The base-2 logarithm; minus infinity at 0, NaN below."""

    language = "log2"
    evaluate = staticmethod(numpy.log2)


class Sqrt(FloatUnary, mnemonic="sqrt"):
    """The square root; NaN below 0.

    Only a `precise` float32 root is correctly rounded everywhere; GPUs may else be 1 ulp off.
    """

    language = "sqrt"
    precise: bool = attribute(default=False)
    evaluate = staticmethod(numpy.sqrt)


class Rsqrt(FloatUnary, mnemonic="rsqrt"):
    """1 / sqrt(x)."""

    language = "rsqrt"

    @staticmethod
    def evaluate(x: Any) -> Any:
        return numpy.reciprocal(numpy.sqrt(x))


class Sin(FloatUnary, mnemonic="sin"):
    """The sine of x radians."""

    language = "sin"
    evaluate = staticmethod(numpy.sin)


class Cos(FloatUnary, mnemonic="cos"):
    """The cosine of x radians."""

    language = "cos"
    evaluate = staticmethod(numpy.cos)


class Tanh(FloatUnary, mnemonic="tanh"):
    """The hyperbolic tangent."""

    language = "tanh"
    evaluate = staticmethod(numpy.tanh)


class Erf(FloatUnary, mnemonic="erf"):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x."""

    language = "erf"

    @staticmethod
    def evaluate(x: Any) -> Any:
        kind = numpy.asarray(x).dtype
        return numpy.vectorize(math.erf, otypes=[numpy.float64])(x).astype(kind)


class Floor(FloatUnary, mnemonic="floor"):
    """The largest integer that is not above x, as a float."""

    language = "floor"
    evaluate = staticmethod(numpy.floor)


class Ceil(FloatUnary, mnemonic="ceil"):
    """The smallest integer that is not below x, as a float."""

    language = "ceil"
    evaluate = staticmethod(numpy.ceil)


def _is_float(op: Op) -> bool:
    kind = element_type(op.results[0].type)
    return isinstance(kind, DType) and kind.is_float


def _is_all_ones(value: Value) -> bool:
    kind, known = element_type(value.type), constant_value(value)
    return (
        isinstance(kind, DType)
        and known is not None
        and known == (-1 if kind.is_signed else kind.maximum)
    )
