"""Attributes of blocks, scalars and types: `x.shape`, `x.dtype.is_floating()`, and so on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from operator import eq
from typing import Any

from blocklang.ir.types import (
    DTYPES,
    BlockType,
    DType,
    PointerType,
    element_type,
    f8e4m3,
    f8e5m2,
    f16,
    f32,
    f64,
)

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


class Query:
    """A method of a type without arguments, such as `is_floating()`."""

    def __init__(self, name: str, answer: bool) -> None:
        self.__name__ = name
        self.answer = answer

    def __call__(self) -> bool:
        """The answer."""
        return self.answer


TYPE_ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "element_ty": lambda t: t.element if isinstance(t, PointerType | BlockType) else None,
    "scalar": lambda t: t.element if isinstance(t, BlockType) else t,
    "shape": lambda t: t.shape if isinstance(t, BlockType) else None,
    "numel": lambda t: prod(t.shape) if isinstance(t, BlockType) else None,
    "primitive_bitwidth": lambda t: element_type(t).bits,
    "itemsize": lambda t: t.bytes if isinstance(t, DType) else None,
    "name": lambda t: t.language_name if isinstance(t, DType) else None,
    "int_bitwidth": lambda t: t.bits if isinstance(t, DType) and t.is_integer else None,
    "fp_mantissa_width": lambda t: t.mantissa if isinstance(t, DType) and t.is_float else None,
}
"""Attributes and methods of types; None where a type does not have one."""


def _query(name: str, test: Callable[[Any], bool]) -> None:
    TYPE_ATTRIBUTES[name] = lambda type: Query(name, test(type))


def _query_dtype(name: str, test: Callable[[DType], bool]) -> None:
    _query(name, lambda type: isinstance(type, DType) and test(type))


_query("is_ptr", lambda type: isinstance(type, PointerType))
_query("is_block", lambda type: isinstance(type, BlockType))
_query_dtype("is_floating", lambda dtype: dtype.is_float)
_query_dtype("is_int", lambda dtype: dtype.is_integer)
_query_dtype("is_int_signed", lambda dtype: dtype.is_integer and dtype.is_signed)
_query_dtype("is_int_unsigned", lambda dtype: dtype.is_integer and not dtype.is_signed)
_query_dtype("is_bool", lambda dtype: dtype.is_bool)
_query_dtype("is_fp8", lambda dtype: dtype.is_float8)
_query_dtype("is_standard_floating", lambda dtype: dtype.is_float and not dtype.is_float8)
_TRITON_NAMES = {f8e4m3: "fp8e4nv", f8e5m2: "fp8e5", f16: "fp16", f32: "fp32", f64: "fp64"}
for _dtype in DTYPES.values():
    # Triton asks for integers by the full name and for floats by the short one: is_int8, is_fp16.
    _name = _dtype.language_name if _dtype.is_integer else _TRITON_NAMES.get(_dtype, _dtype.name)
    _query_dtype(f"is_{_name}", partial(eq, _dtype))
