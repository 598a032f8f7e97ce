"""Attributes of blocks, scalars and types: `x.shape`, `x.dtype.is_floating()`, and so on."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from blocklang.ir.types import BlockType, DType, PointerType

from .builtins.shape import trans
from .values import Tensor

ATTRIBUTES: dict[str, Callable[[Tensor], Any]] = {
    "dtype": lambda x: x.dtype,
    "type": lambda x: x.type,
    "shape": lambda x: x.shape,
    "numel": lambda x: prod(x.shape),
    "T": trans,
}
"""Attributes of runtime values."""


def _of_dtype(query: Callable[[DType], Any]) -> Callable[[Any], Any]:
    """An attribute of dtypes; pointers and blocks do not have it."""
    return lambda type: query(type) if isinstance(type, DType) else None


class Query:
    """A method of a type without arguments, such as `is_floating()`."""

    __blocklang_query__ = True

    def __init__(self, name: str, answer: Any) -> None:
        self.__name__ = name
        self.answer = answer

    def __call__(self) -> Any:
        return self.answer


def _query(name: str, test: Callable[[Any], bool]) -> Callable[[Any], Query]:
    return lambda type: Query(name, test(type))


def _is(name: str, test: Callable[[DType], bool]) -> tuple[str, Callable[[Any], Query]]:
    return name, _query(name, lambda type: isinstance(type, DType) and test(type))


def _bits(type: Any) -> int | None:
    element = type.element if isinstance(type, BlockType) else type
    return int(element.bits)


TYPE_ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "element_ty": lambda t: t.element if isinstance(t, PointerType | BlockType) else None,
    "scalar": lambda t: t.element if isinstance(t, BlockType) else t,
    "shape": lambda t: t.shape if isinstance(t, BlockType) else None,
    "numel": lambda t: prod(t.shape) if isinstance(t, BlockType) else None,
    "primitive_bitwidth": _bits,
    "itemsize": lambda t: t.bytes if isinstance(t, DType) else None,
    "name": _of_dtype(lambda d: d.language_name),
    "int_bitwidth": _of_dtype(lambda d: d.bits if d.is_integer else None),
    "fp_mantissa_width": _of_dtype(lambda d: d.mantissa if d.is_float else None),
    **dict(
        (
            _is("is_floating", lambda d: d.is_float),
            _is("is_int", lambda d: d.is_integer),
            _is("is_int_signed", lambda d: d.is_integer and d.is_signed),
            _is("is_int_unsigned", lambda d: d.is_integer and not d.is_signed),
            _is("is_bool", lambda d: d.is_bool),
            _is("is_fp8", lambda d: d.is_float8),
            _is("is_fp8e4nv", lambda d: d.name == "f8e4m3"),
            _is("is_fp8e5", lambda d: d.name == "f8e5m2"),
            _is("is_fp16", lambda d: d.name == "f16"),
            _is("is_bf16", lambda d: d.name == "bf16"),
            _is("is_fp32", lambda d: d.name == "f32"),
            _is("is_fp64", lambda d: d.name == "f64"),
            _is("is_standard_floating", lambda d: d.is_float and not d.is_float8),
            *(
                _is(f"is_{sign}int{bits}", lambda d, s=sign, b=bits: (
                    d.is_integer and d.bits == b and d.is_signed == (s == "") and not d.is_bool
                ))
                for sign in ("", "u")
                for bits in (8, 16, 32, 64)
            ),
            _is("is_int1", lambda d: d.is_bool),
        )
    ),
    "is_ptr": _query("is_ptr", lambda t: isinstance(t, PointerType)),
    "is_block": _query("is_block", lambda t: isinstance(t, BlockType)),
}  # fmt: skip
"""Attributes and methods of types; None where a type does not have one."""
