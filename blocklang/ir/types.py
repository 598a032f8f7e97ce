"""Types of IR values: scalars, pointers, blocks of them, descriptors of tensors, shared-memory
buffers and barriers.

Types are immutable, hashable and compared by value. Integers carry signedness. A block's layout is
None before `assign_layouts` and a LinearLayout on every block after it. The text of a type is its
`str`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .layout import LinearLayout


@dataclass(frozen=True)
class DType:
    """A scalar type.

    `name` is the IR's spelling, `language_name` the language's, `kind` is "int", "uint" or
    "float"; i1 is an unsigned integer of one bit. `mantissa` counts the stored fraction bits of a
    float.
    """

    name: str
    language_name: str
    kind: str
    bits: int
    mantissa: int = 0

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"bl.{self.language_name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype, (self.name,)

    @property
    def bytes(self) -> int:
        """Size in memory; an i1 takes one byte."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        """Any floating-point type."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Any integer type, i1 included."""
        return self.kind != "float"

    @property
    def is_signed(self) -> bool:
        """Signed integers and floats."""
        return self.kind != "uint"

    @property
    def is_bool(self) -> bool:
        """The type of masks and conditions."""
        return self.bits == 1

    @property
    def is_float8(self) -> bool:
        """One of the 8-bit floats, which only exist to be stored and converted."""
        return self.is_float and self.bits == 8

    @cached_property
    def numpy(self) -> Any:
        """The NumPy dtype of the same values (ml_dtypes for bfloat16 and the 8-bit floats)."""
        import numpy

        own = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}
        if self.name in own:
            import ml_dtypes

            return numpy.dtype(getattr(ml_dtypes, own[self.name]))
        return numpy.dtype("bool" if self.is_bool else self.language_name)

    @property
    def minimum(self) -> int | float:
        """The smallest value (minus infinity for floats)."""
        if self.is_float:
            return -math.inf
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def maximum(self) -> int | float:
        """The largest value (infinity for floats)."""
        if self.is_float:
            return math.inf
        return (1 << (self.bits - self.is_signed)) - 1


i1 = DType("i1", "int1", "uint", 1)
i8 = DType("i8", "int8", "int", 8)
i16 = DType("i16", "int16", "int", 16)
i32 = DType("i32", "int32", "int", 32)
i64 = DType("i64", "int64", "int", 64)
u8 = DType("u8", "uint8", "uint", 8)
u16 = DType("u16", "uint16", "uint", 16)
u32 = DType("u32", "uint32", "uint", 32)
u64 = DType("u64", "uint64", "uint", 64)
f8e4m3 = DType("f8e4m3", "float8e4nv", "float", 8, 3)
f8e5m2 = DType("f8e5m2", "float8e5", "float", 8, 2)
f16 = DType("f16", "float16", "float", 16, 10)
bf16 = DType("bf16", "bfloat16", "float", 16, 7)
f32 = DType("f32", "float32", "float", 32, 23)
f64 = DType("f64", "float64", "float", 64, 52)

DTYPES = {
    d.name: d
    for d in (i1, i8, i16, i32, i64, u8, u16, u32, u64, f8e4m3, f8e5m2, f16, bf16, f32, f64)
}
_SIGNATURE = {
    "fp8e4nv": f8e4m3, "fp8e5": f8e5m2, "fp16": f16, "fp32": f32, "fp64": f64,
    "float8_e4m3fn": f8e4m3, "float8_e5m2": f8e5m2, "bool": i1,
}  # fmt: skip
_SPELLINGS = {**DTYPES, **{d.language_name: d for d in DTYPES.values()}, **_SIGNATURE}


def dtype(spelling: str) -> DType:
    """The dtype of any accepted spelling: `f32`, `float32`, `fp32`, .... Raises KeyError for
    others.
    """
    return _SPELLINGS[spelling]


def is_dtype_spelling(spelling: str) -> bool:
    """Whether `dtype(spelling)` would succeed."""
    return spelling in _SPELLINGS


@dataclass(frozen=True)
class PointerType:
    """A pointer to scalars (or pointers) in global memory."""

    element: DType | PointerType

    bits = 64
    bytes = 8

    def __str__(self) -> str:
        return f"ptr<{self.element}>"

    def __repr__(self) -> str:
        return str(self)


Element = DType | PointerType


@dataclass(frozen=True)
class BlockType:
    """A block of `shape` elements (rank at least 1), spread over threads as `layout` says once it
    has one.
    """

    shape: tuple[int, ...]
    element: Element
    layout: LinearLayout | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def registers(self) -> int:
        """Elements that each thread holds; only once there is a layout."""
        assert self.layout is not None, f"{self} has no layout yet"
        return self.layout.in_size("register")

    def __str__(self) -> str:
        layout = f", {self.layout}" if self.layout else ""
        return f"block<{'x'.join(map(str, self.shape))}x{self.element}{layout}>"


@dataclass(frozen=True)
class SharedType:
    """A shared-memory buffer of `depth` slots with `shape` elements each; `layout` maps the bits of
    an element offset within a slot to coordinates.
    """

    shape: tuple[int, ...]
    element: DType
    layout: LinearLayout
    depth: int = 1

    @property
    def slot_bytes(self) -> int:
        """Bytes that one slot takes."""
        return self.layout.in_size("offset") * self.element.bytes

    @property
    def bytes(self) -> int:
        """Bytes that the buffer takes."""
        return self.depth * self.slot_bytes

    def __str__(self) -> str:
        depth = f", {self.depth}" if self.depth > 1 else ""
        return f"shared<{'x'.join(map(str, self.shape))}x{self.element}, {self.layout}{depth}>"


@dataclass(frozen=True)
class DescriptorType:
    """A tensor in global memory of which blocks of `shape` are loaded and stored."""

    shape: tuple[int, ...]
    element: DType

    def __str__(self) -> str:
        return f"descriptor<{'x'.join(map(str, self.shape))}x{self.element}>"


@dataclass(frozen=True)
class TensorMapType:
    """A tensor as the tensor memory accelerator knows it: 128 bytes that the launcher encodes."""

    def __str__(self) -> str:
        return "tensor_map"


@dataclass(frozen=True)
class MBarriersType:
    """`depth` barriers in shared memory."""

    depth: int

    @property
    def bytes(self) -> int:
        """Bytes that they take."""
        return 8 * self.depth

    def __str__(self) -> str:
        return f"mbarriers<{self.depth}>"


@dataclass(frozen=True)
class PendingType:
    """A block that a warpgroup is still computing."""

    block: BlockType

    @property
    def layout(self) -> LinearLayout | None:
        """The layout of the block."""
        return self.block.layout

    def __str__(self) -> str:
        return f"pending<{self.block}>"


Type = (
    DType
    | PointerType
    | BlockType
    | SharedType
    | DescriptorType
    | TensorMapType
    | MBarriersType
    | PendingType
)


def element_type(type: Type) -> Element:
    """The scalar or pointer type of one element; the type itself for scalars. Types that have no
    elements are none that this is asked of.
    """
    if isinstance(type, PendingType):
        return type.block.element
    if isinstance(type, BlockType | SharedType | DescriptorType):
        return type.element
    return type  # type: ignore[return-value]


def shape_of(type: Type) -> tuple[int, ...]:
    """The shape of a block, buffer or descriptor; () for all others."""
    return type.shape if isinstance(type, BlockType | SharedType | DescriptorType) else ()


def with_element(type: Type, element: Element) -> Type:
    """The same shape and layout with another element type."""
    return replace(type, element=element) if isinstance(type, BlockType) else element


def block_or_scalar(
    shape: tuple[int, ...], element: Element, layout: LinearLayout | None = None
) -> Type:
    """A block of that shape, or the bare element where the shape is ()."""
    return BlockType(shape, element, layout) if shape else element
