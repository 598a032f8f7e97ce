"""Tensor maps in C headers: what a C program must have the driver encode for a launch.

A recipe (`blocklang/runtime/tensor_map.py`) becomes a comment whose numbers are C expressions on
the members of the structure of the arguments. Expressions that C would compute in another way are
left to the manifest, which has the recipe itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from blocklang.ir.types import dtype

_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%"}
_SEE_MANIFEST = "(see the manifest)"


def description(number: int, recipe: Mapping[str, Any], members: Sequence[str]) -> Iterator[str]:
    """Lines that say how map `number` is encoded; `members` are the arguments' names in C."""
    element = dtype(recipe["element"])
    axes = list(reversed(recipe["axes"]))
    sizes = [_text(recipe["shape"][axis], members) for axis in axes]
    steps = [_bytes(recipe["strides"][axis], element.bytes, members) for axis in axes[1:]]
    # One dimension has no strides, but the driver refuses the null pointer that stands for none.
    steps = steps or ["16"]
    swizzle = f"{recipe['swizzle']} bytes" if recipe["swizzle"] else "none"
    outside = "NaN" if recipe["padding"] == "nan" else "zero"
    yield f"tensor_maps[{number}] is what cuTensorMapEncodeTiled makes of:"
    kind = f"{element} (CU_TENSOR_MAP_DATA_TYPE_TFLOAT32)" if recipe["rounding"] else str(element)
    yield f"    {kind} at {_text(recipe['pointer'], members)}, {len(axes)} dimensions"
    yield f"    sizes {{{', '.join(sizes)}}}, the fastest first"
    yield f"    strides {{{', '.join(steps)}}}, in bytes"
    yield f"    box {{{', '.join(map(str, reversed(recipe['box'])))}}}, element strides 1"
    yield f"    no interleave, swizzle {swizzle}, {outside} outside"


def _bytes(expression: Sequence[Any], size: int, members: Sequence[str]) -> str:
    """The C expression of a stride, in bytes."""
    kind, _, detail, *_ = expression
    if kind == "const":
        return str(detail * size)
    text = _text(expression, members)
    return text if size == 1 or text == _SEE_MANIFEST else f"{size} * {text}"


def _text(expression: Sequence[Any], members: Sequence[str]) -> str:
    """The C expression that computes `expression`."""
    kind, type, detail, *operands = expression
    if kind == "arg":
        return members[detail]
    if kind == "const":
        return str(detail)
    inner = [_text(operand, members) for operand in operands]
    if _SEE_MANIFEST in inner:
        return _SEE_MANIFEST
    if kind == "cast" and type in ("i64", "u64"):
        return inner[0]
    if kind == "add_pointer":
        return f"({inner[0]} + {dtype(type[4:-1]).bytes} * {inner[1]})"
    if kind in _OPERATORS and type in ("i32", "i64"):
        return f"({inner[0]} {_OPERATORS[kind]} {inner[1]})"
    return _SEE_MANIFEST
