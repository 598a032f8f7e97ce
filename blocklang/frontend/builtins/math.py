"""Functions of numbers: those of the IR's elementwise ops, and what is composed of them.

Each elementwise op with a `language` name becomes a function here by itself, with the op's text as
its documentation.
"""

from __future__ import annotations

import enum
from inspect import cleandoc
from typing import Any

from blocklang.frontend import emission, operators
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import bitcast, cast, tensor
from blocklang.frontend.errors.operations import FloatRequired
from blocklang.frontend.errors.types import BadCast, WrongArgumentType
from blocklang.frontend.shapes import broadcast
from blocklang.frontend.typing_rules import common_dtype
from blocklang.frontend.values import Tensor, describe, element_text, is_number
from blocklang.ir.op import REGISTRY
from blocklang.ir.ops.elementwise import (
    Divide,
    Elementwise,
    Exp,
    FusedMultiplyAdd,
    Maximum,
    Minimum,
    Sqrt,
    Unary,
)
from blocklang.ir.types import DType, Element, PointerType, bf16, f16, f32

from .registry import blame, builtin


class PropagateNan(enum.Enum):
    """What `minimum`, `maximum` and `clamp` give where an operand is NaN: the other one, or NaN."""

    NONE = 0
    ALL = 0xFFFF


def float_operand(function: str, value: Any, argument: str) -> Tensor:
    """A number or block of floats; raises FloatRequired for integers and the 8-bit floats."""
    operand = tensor(value, f"the argument of {function}()")
    dtype = operand.dtype
    if not isinstance(dtype, DType) or not dtype.is_float or dtype.is_float8:
        raise blame(argument, FloatRequired(function=function, found=describe(value)))
    return operand


def _float_function(op: type[Elementwise], name: str, value: Any, **attributes: Any) -> Tensor:
    """A function of one float; 16-bit floats are computed in float32."""
    operand = float_operand(name, value, "x")
    if operand.dtype in (f16, bf16):
        return cast(emission.elementwise(op, cast(operand, f32), **attributes), operand.dtype)
    return emission.elementwise(op, operand, **attributes)


def _derive(op: type[Elementwise]) -> None:
    """Make the function of an op with one operand."""
    name = op.language
    assert name is not None

    def function(x: Any) -> Tensor:
        if op.domain == "float":
            return _float_function(op, name, x)
        operand = tensor(x, f"the argument of {name}()")
        _number(name, operand, "x")
        dtype = operand.number
        return emission.elementwise(op, cast(operand, common_dtype(dtype, dtype)))

    takes = "floats" if op.domain == "float" else "numbers"
    function.__name__ = name
    function.__doc__ = (
        f"{cleandoc(op.__doc__ or '')}\n\n`x` is a scalar or block of {takes}; the result has its "
        f"shape and dtype.\n\nExample: `y = bl.{name}(x)`"
    )
    builtin(method=True)(function)


for _op in list(REGISTRY.values()):
    if issubclass(_op, Unary) and _op.language is not None:
        _derive(_op)


def _number(function: str, value: Tensor, argument: str) -> None:
    if value.is_pointer:
        raise blame(
            argument,
            WrongArgumentType(
                what=f"the argument of {function}()",
                expected="a number or a block of numbers",
                found=describe(value),
                instead="load() what the pointer points to",
            ),
        )


def _extremum(op: type[Elementwise], x: Any, y: Any, propagate_nan: Any) -> Tensor:
    both = []
    for argument, value in (("x", x), ("y", y)):
        operand = tensor(value, f"'{argument}'")
        _number(op.mnemonic, operand, argument)
        # As in Triton: bfloat16 is compared, and returned, as float32.
        both.append(cast(operand, f32) if operand.dtype == bf16 else operand)
    left, right = operators.promote(op.mnemonic, *both)
    if propagate_nan == PropagateNan.ALL:
        return emission.elementwise(op, left, right, propagate_nan=True)
    return emission.elementwise(op, left, right)


@builtin
def minimum(x: Any, y: Any, propagate_nan: Static[PropagateNan] = PropagateNan.NONE) -> Tensor:
    """Return the smaller of `x` and `y`, element by element, in their common shape and dtype.

    A NaN loses against a number unless `propagate_nan` is `bl.PropagateNan.ALL`. bfloat16 becomes
    float32.

    Example: `size = bl.minimum(n - start, BLOCK)`
    """
    return _extremum(Minimum, x, y, propagate_nan)


@builtin
def maximum(x: Any, y: Any, propagate_nan: Static[PropagateNan] = PropagateNan.NONE) -> Tensor:
    """Return the larger of `x` and `y`, element by element, in their common shape and dtype.

    A NaN loses against a number unless `propagate_nan` is `bl.PropagateNan.ALL`. bfloat16 becomes
    float32.

    Example: `y = bl.maximum(x, 0.0)`
    """
    return _extremum(Maximum, x, y, propagate_nan)


@builtin
def clamp(
    x: Any,
    min: Any,
    max: Any,
    propagate_nan: Static[PropagateNan] = PropagateNan.NONE,
) -> Tensor:
    """Return `x` where it lies between `min` and `max`, the nearer of the two elsewhere.

    A NaN in `x` gives `min` unless `propagate_nan` is `bl.PropagateNan.ALL`. bfloat16 becomes
    float32.

    Example: `y = bl.clamp(x, 0.0, 6.0)`
    """
    return _extremum(Minimum, _extremum(Maximum, x, min, propagate_nan), max, propagate_nan)


@builtin
def where(condition: Any, x: Any, y: Any) -> Tensor:
    """Return `x` where `condition` is true and `y` elsewhere; all three are broadcast together.

    The result has the common dtype of `x` and `y`. Both are computed everywhere: a load in one of
    them needs a mask of its own.

    Example: `y = bl.where(x > 0, x, 0.0)`
    """
    return operators.select(tensor(condition, "the condition of where()"), x, y)


@builtin(method=True)
def cast_(
    input: Any,
    dtype: Static[Any],
    fp_downcast_rounding: Static[str | None] = None,
    bitcast: Static[bool] = False,
) -> Tensor:
    """Return `input` converted to `dtype`, with the same number in each element.

    Floats that become integers lose their fraction; integers that do not fit keep their low bits;
    everything becomes int1 by `!= 0`. `fp_downcast_rounding`, "rtne" (to nearest, the default) or
    "rtz" (toward zero), is for floats that become narrower. With `bitcast` the bits stay instead of
    the number; both dtypes must have one width.

    Example: `y = bl.cast(x, bl.float16)`
    """
    return convert(input, dtype, fp_downcast_rounding, bitcast)


@builtin(method=True)
def to(
    input: Any,
    dtype: Static[Any],
    fp_downcast_rounding: Static[str | None] = None,
    bitcast: Static[bool] = False,
) -> Tensor:
    """Return the value converted to `dtype`; the method form of `cast`.

    Example: `total += x.to(bl.float32)`
    """
    return convert(input, dtype, fp_downcast_rounding, bitcast)


def convert(input: Any, dtype: Any, rounding: Any, keep_bits: Any) -> Tensor:
    """What `cast` and `to` do."""
    value = tensor(input, "what is converted")
    if not isinstance(dtype, DType | PointerType):
        raise blame(
            "dtype",
            WrongArgumentType(
                what="'dtype'",
                expected="a dtype",
                found=describe(dtype),
                instead="write, for example, float32",
            ),
        )
    if keep_bits:
        return bitcast(value, dtype)
    if rounding is not None:
        source = value.dtype
        if rounding not in ("rtne", "rtz") or not _narrows(source, dtype):
            raise blame(
                "fp_downcast_rounding",
                BadCast(
                    source=element_text(source),
                    target=f"{element_text(dtype)} with rounding {rounding!r}",
                    instead="the roundings 'rtne' and 'rtz' are for floats that become narrower",
                ),
            )
    return cast(value, dtype, rounding or "")


def _narrows(source: Element, target: Element) -> bool:
    if isinstance(source, PointerType) or isinstance(target, PointerType):
        return False
    return source.is_float and target.is_float and target.bits < source.bits


@builtin(method=True)
def sigmoid(x: Any) -> Tensor:
    """Return `1 / (1 + exp(-x))` of floats.

    Example: `gate = bl.sigmoid(x)`
    """
    operand = float_operand("sigmoid", x, "x")
    wide = cast(operand, f32) if operand.dtype in (f16, bf16) else operand
    exponential = emission.elementwise(Exp, operators.unary("-", wide))
    result = operators.binary("/", 1.0, operators.binary("+", 1.0, exponential))
    return cast(result, operand.dtype)


@builtin
def fma(x: Any, y: Any, z: Any) -> Tensor:
    """Return `x * y + z` of floats, rounded once, in their common shape and dtype.

    Example: `acc = bl.fma(a, b, acc)`
    """
    for argument, value in (("x", x), ("y", y), ("z", z)):
        if not is_number(value):
            float_operand("fma", value, argument)
    left, right = operators.promote("fma", x, y)
    _, addend = operators.promote("fma", left, z)
    left, _ = operators.promote("fma", left, addend)
    right, _ = operators.promote("fma", right, addend)
    dtype = left.dtype
    if dtype in (f16, bf16):
        wide = [cast(value, f32) for value in broadcast(left, right, addend)]
        return cast(emission.elementwise(FusedMultiplyAdd, *wide), dtype)
    return emission.elementwise(FusedMultiplyAdd, *broadcast(left, right, addend))


@builtin
def cdiv(x: Any, div: Any) -> Any:
    """Return `x / div` rounded up, for integers of which `div` is positive.

    Two compile-time integers give a compile-time integer.

    Example: `blocks = bl.cdiv(n, BLOCK)`
    """
    if type(x) is int and type(div) is int and div != 0:
        return -(-x // div)
    # A divisor without a dtype takes that of x, as in any other arithmetic.
    above = div - 1 if is_number(div) else operators.binary("-", tensor(div, "'div'"), 1)
    return operators.binary("//", operators.binary("+", tensor(x, "'x'"), above), div)


@builtin
def fdiv(x: Any, y: Any, ieee_rounding: Static[bool] = False) -> Tensor:
    """Return the quotient of floats; with `ieee_rounding` it is rounded correctly.

    Example: `y = bl.fdiv(x, total)`
    """
    return _quotient("fdiv", x, y, bool(ieee_rounding))


@builtin
def div_rn(x: Any, y: Any) -> Tensor:
    """Return the correctly rounded quotient of floats.

    Example: `y = bl.div_rn(x, total)`
    """
    return _quotient("div_rn", x, y, True)


def _quotient(function: str, x: Any, y: Any, precise: bool) -> Tensor:
    for argument, value in (("x", x), ("y", y)):
        if not is_number(value):
            float_operand(function, value, argument)
    left, right = operators.promote("/", tensor(x), y, division=True)
    if precise:
        return emission.elementwise(Divide, left, right, precise=True)
    return emission.elementwise(Divide, left, right)


@builtin
def sqrt_rn(x: Any) -> Tensor:
    """Return the correctly rounded square root of floats.

    Example: `norm = bl.sqrt_rn(bl.sum(x * x))`
    """
    return _float_function(Sqrt, "sqrt_rn", x, precise=True)
