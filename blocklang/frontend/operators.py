"""The operators of the language on runtime values: conversion, broadcasting, then one op.

Each function takes Tensors and numbers, at least one of them a Tensor, and returns a Tensor. What
only compile-time values are combined with is in `constexpr`.
"""

from __future__ import annotations

from typing import Any

from blocklang.ir.ops.elementwise import (
    Add,
    AddPointer,
    And,
    Binary,
    Compare,
    Divide,
    Multiply,
    Negate,
    Not,
    Or,
    Remainder,
    Select,
    ShiftLeft,
    ShiftRight,
    Subtract,
    Xor,
)
from blocklang.ir.types import DTYPES, PointerType, f32, i64

from . import emission, typing_rules
from .conversion import bitcast, cast, tensor, truth, weak
from .errors.types import OperandType, OperandTypes
from .products import matrix_product
from .shapes import broadcast
from .values import Tensor, describe, is_number, literal_dtype

ARITHMETIC: dict[str, type[Binary]] = {"+": Add, "-": Subtract, "*": Multiply}
DIVISION: dict[str, type[Binary]] = {"/": Divide, "//": Divide, "%": Remainder}
BITS: dict[str, type[Binary]] = {"&": And, "|": Or, "^": Xor, "<<": ShiftLeft, ">>": ShiftRight}
PREDICATES = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}

_NUMBERS_ONLY = "operators take numbers and blocks of numbers"


def binary(operator: str, left: Any, right: Any) -> Tensor:
    """`left operator right` for `+ - * / // % @ & | ^ << >>`."""
    if operator == "@":
        return matrix_product(left, right)
    _check_operands(operator, left, right)
    if _is_pointer(left) or _is_pointer(right):
        return _pointer_arithmetic(operator, left, right)
    if operator in BITS:
        return _bitwise(operator, left, right)
    if operator in DIVISION:
        return _divide(operator, left, right)
    if operator not in ARITHMETIC:
        raise _operand_types(operator, left, right, "write x * x, or exp2(y * log2(x))")
    left, right = promote(operator, left, right)
    return emission.elementwise(ARITHMETIC[operator], left, right)


def compare(operator: str, left: Any, right: Any) -> Tensor:
    """`left operator right` for comparisons: int1 of the common shape."""
    _check_operands(operator, left, right)
    if _is_pointer(left) and _is_pointer(right) and left.dtype == right.dtype:
        left, right = broadcast(bitcast(left, i64), bitcast(right, i64))
    else:
        left, right = promote(operator, left, right)
    return emission.elementwise(Compare, left, right, predicate=PREDICATES[operator])


def unary(operator: str, value: Tensor) -> Tensor:
    """`-x`, `+x`, `~x` or `not x`."""
    if operator == "not":
        return emission.elementwise(Not, truth(value))
    dtype = value.dtype
    if isinstance(dtype, PointerType) or (operator == "~" and dtype.is_float):
        instead = "~ takes integers" if operator == "~" else _NUMBERS_ONLY
        raise OperandType(operator=operator, operand=describe(value), instead=instead)
    if operator == "+":
        return value
    if operator == "~":
        return emission.elementwise(Not, value)
    return emission.elementwise(Negate, cast(value, typing_rules.common_dtype(dtype, dtype)))


def logical(operator: str, left: Any, right: Any) -> Tensor:
    """`left and right` or `left or right`, element by element; both sides are computed."""
    both = broadcast(truth(tensor(left)), truth(tensor(right)))
    return emission.elementwise(And if operator == "and" else Or, *both)


def select(condition: Tensor, then: Any, otherwise: Any) -> Tensor:
    """`then` where `condition` holds, else `otherwise`, in their common dtype and shape."""
    if _is_pointer(then) and _is_pointer(otherwise) and then.dtype == otherwise.dtype:
        then, otherwise = broadcast(then, otherwise)
    else:
        then, otherwise = promote("where", then, otherwise)
    chosen = broadcast(truth(condition), then, otherwise)
    return emission.elementwise(Select, *chosen)


def promote(
    operator: str, left: Any, right: Any, *, division: bool = False
) -> tuple[Tensor, Tensor]:
    """Both operands in their common dtype and shape."""
    _check_operands(operator, left, right)
    weak_left, weak_right = not isinstance(left, Tensor), not isinstance(right, Tensor)
    left_dtype = literal_dtype(left) if weak_left else left.dtype
    right_dtype = literal_dtype(right) if weak_right else right.dtype
    if isinstance(left_dtype, PointerType) or isinstance(right_dtype, PointerType):
        raise _operand_types(operator, left, right, "pointers take '+ integer' and '- integer'")
    common = typing_rules.common_dtype(
        left_dtype,
        right_dtype,
        weak_left=weak_left,
        weak_right=weak_right,
        division=operator if division else "",
    )
    left = weak(left, common) if weak_left else cast(left, common)
    right = weak(right, common) if weak_right else cast(right, common)
    left, right = broadcast(left, right)
    return left, right


def _divide(operator: str, left: Any, right: Any) -> Tensor:
    left, right = promote(operator, left, right, division=True)
    if operator == "//" and left.number.is_float:
        raise _operand_types(operator, left, right, "write floor(x / y)")
    if operator == "/" and not left.number.is_float:
        left, right = cast(left, f32), cast(right, f32)
    return emission.elementwise(DIVISION[operator], left, right)


def _bitwise(operator: str, left: Any, right: Any) -> Tensor:
    # As in Triton, a literal counts with its own dtype here: int8 & 1 is int32.
    first, second = tensor(left), tensor(right)
    if first.number.is_float or second.number.is_float:
        raise _operand_types(operator, left, right, "convert floats with .to(int32), or bitcast")
    common = typing_rules.integer_promotion(first.number, second.number)
    if operator == ">>" and first.number.is_signed and not common.is_signed:
        # The sign of the left operand decides which bits enter, whatever the common dtype is.
        signed = DTYPES[f"i{common.bits}"]
        both = broadcast(cast(first, signed), cast(second, signed))
        return cast(emission.elementwise(ShiftRight, *both), common)
    both = broadcast(cast(first, common), cast(second, common))
    return emission.elementwise(BITS[operator], *both)


def _pointer_arithmetic(operator: str, left: Any, right: Any) -> Tensor:
    pointer, offset = (left, right) if _is_pointer(left) else (right, left)
    swapped = pointer is right
    instead = "pointers take '+ integer' and '- integer'"
    if operator not in ("+", "-") or _is_pointer(offset) or (swapped and operator == "-"):
        raise _operand_types(operator, left, right, instead)
    offset = tensor(offset)
    if offset.number.is_float:
        raise _operand_types(operator, left, right, "convert the offset with .to(int32)")
    if not offset.number.is_signed and offset.number.bits < 64:
        offset = cast(offset, i64)
    if operator == "-":
        offset = emission.elementwise(Negate, offset)
    return emission.elementwise(AddPointer, *broadcast(pointer, offset))


def _is_pointer(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_pointer


def _check_operands(operator: str, left: Any, right: Any) -> None:
    if not all(isinstance(value, Tensor) or is_number(value) for value in (left, right)):
        raise _operand_types(operator, left, right, _NUMBERS_ONLY)


def _operand_types(operator: str, left: Any, right: Any, instead: str) -> OperandTypes:
    return OperandTypes(
        operator=operator, left=describe(left), right=describe(right), instead=instead
    )
