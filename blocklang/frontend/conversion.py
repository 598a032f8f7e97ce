"""Conversions of runtime values: casts, bitcasts, literals and truth values."""

from __future__ import annotations

import math
from typing import Any

from blocklang.ir.builder import normalize
from blocklang.ir.ops.elementwise import Bitcast, Cast
from blocklang.ir.types import DType, Element, PointerType, i1, i64, with_element

from . import emission
from .errors.types import BadCast, LiteralOutOfRange, WrongArgumentType
from .values import Number, Tensor, describe, element_text, is_number, known, literal


def tensor(value: Any, what: str = "this") -> Tensor:
    """A runtime value: a Tensor as it is, a number as a scalar of its own dtype.

    Raises WrongArgumentType, with `what` in its text, for everything else.
    """
    if isinstance(value, Tensor):
        return value
    if is_number(value):
        return literal(value)
    raise WrongArgumentType(
        what=what,
        expected="a number, pointer or block",
        found=describe(value),
        instead="pass a value that the kernel computes, or a number",
    )


def cast(value: Tensor, target: Element, rounding: str = "") -> Tensor:
    """`value` converted to `target`; `rounding` is "", "rtne" or "rtz" (narrowing floats only)."""
    source = value.dtype
    if source == target:
        return value
    if isinstance(source, PointerType) or isinstance(target, PointerType):
        return _cast_pointer(value, source, target)
    type = with_element(value.type, target)
    if value.known is not None and rounding in ("", "rtne"):
        number = convert_number(value.known, target)
        if number is not None:
            return Tensor(type, None, number)
    return emission.convert(Cast, value, type, rounding=rounding or "rtne")


def convert_number(number: Number, target: DType) -> Number | None:
    """A known number in another dtype, as a cast gives it; None where that is not defined."""
    if target.is_bool:
        return int(number != 0)
    if (
        target.is_integer
        and isinstance(number, float)
        and not (math.isfinite(number) and target.minimum <= int(number) <= target.maximum)
    ):
        return None
    return normalize(number, target)


def _cast_pointer(value: Tensor, source: Element, target: Element) -> Tensor:
    if isinstance(source, PointerType) and target == i1:
        return cast(bitcast(value, i64), i1)
    both_plain = all(isinstance(t, PointerType) or t.is_integer for t in (source, target))
    if source.bits == target.bits and both_plain:
        return bitcast(value, target)
    raise BadCast(
        source=element_text(source),
        target=element_text(target),
        instead="pointers convert to and from 64-bit integers, and between each other",
    )


def bitcast(value: Tensor, target: Element) -> Tensor:
    """The same bits as `target`, which has the width of the value's dtype."""
    if value.dtype == target:
        return value
    if value.dtype.bits != target.bits:
        raise BadCast(
            source=f"{element_text(value.dtype)} ({value.dtype.bits} bits)",
            target=f"{element_text(target)} ({target.bits} bits) by its bits",
            instead="without bitcast=True the number is kept, instead of the bits",
        )
    return emission.convert(Bitcast, value, with_element(value.type, target))


def weak(value: Number, dtype: DType) -> Tensor:
    """A number as a scalar of the dtype that it is combined with, which must be able to hold it."""
    if dtype.is_integer and not dtype.minimum <= value <= dtype.maximum:
        raise LiteralOutOfRange(value=value, dtype=dtype.language_name)
    return known(value, dtype)


def truth(value: Tensor) -> Tensor:
    """int1 of the same shape: whether each element is not zero."""
    return cast(value, i1)
