"""Tensor descriptors and block pointers, as the front end knows them.

Both are aggregates: a pointer, sizes and strides, and for block pointers the offsets of the block.
Passing, carrying and merging them is passing these; the op that makes an IR descriptor of them
stands where they come together, so that no descriptor ever flows through control flow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from blocklang.ir import core
from blocklang.ir.location import Location
from blocklang.ir.ops.descriptor import MakeTensorDescriptor
from blocklang.ir.types import BlockType, DType, PointerType, Type, i1, i8, i32, i64

from . import emission
from .conversion import bitcast
from .values import Aggregate, Tensor, element_text, known


@dataclass(frozen=True, eq=False)
class Descriptor(Aggregate):
    """A tensor in global memory, cut into blocks. `shape` is i32 each, `strides` i64 each; with
    `has_rows` the last stride is 1, and no part. `made` is the IR descriptor, where one stands
    before every use.
    """

    base: Tensor
    shape: tuple[Tensor, ...]
    strides: tuple[Tensor, ...]
    block_shape: tuple[int, ...]
    padding: str = "zero"
    has_rows: bool = False
    made: core.Value | None = None

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.base, self.shape, self.strides[:-1] if self.has_rows else self.strides

    @property
    def form(self) -> Hashable:
        return Descriptor, self.element, self.block_shape, self.padding, self.has_rows

    def with_parts(self, parts: tuple[Any, ...]) -> Descriptor:
        base, shape, strides = parts
        if self.has_rows:
            strides = (*strides, known(1, i64))
        return replace(self, base=base, shape=shape, strides=strides, made=None)

    @property
    def description(self) -> str:
        return f"a tensor descriptor of {self._blocks}"

    @property
    def _blocks(self) -> str:
        return f"{element_text(self.element)} blocks with shape {list(self.block_shape)}"

    @property
    def element(self) -> DType:
        """The dtype of the elements."""
        pointer = self.base.dtype
        assert isinstance(pointer, PointerType)
        assert isinstance(pointer.element, DType)
        return pointer.element

    @property
    def stored(self) -> DType:
        """The dtype in memory: a bool takes a byte."""
        return i8 if self.element == i1 else self.element

    @property
    def block(self) -> BlockType:
        """The type of a block."""
        return BlockType(self.block_shape, self.element)

    def build(self) -> Descriptor:
        """This, with its IR descriptor made here."""
        op = MakeTensorDescriptor(
            emission.ir(bitcast(self.base, PointerType(self.stored))),
            tuple(map(emission.ir, self.shape)),
            tuple(map(emission.ir, self.strides)),
            self.block_shape,
            self.padding,
            loc=emission.location(),
        )
        return replace(self, made=emission.builder().insert(op).result)

    @property
    def handle(self) -> core.Value:
        """The IR descriptor."""
        made = self.made or self.build().made
        assert made is not None
        return made


@dataclass(frozen=True, eq=False)
class BlockPointer(Aggregate):
    """The block of a tensor whose first element has the coordinates `offsets` (i32 each)."""

    tensor: Descriptor
    offsets: tuple[Tensor, ...]

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.tensor, self.offsets

    @property
    def form(self) -> Hashable:
        return BlockPointer, self.tensor.form

    def with_parts(self, parts: tuple[Any, ...]) -> BlockPointer:
        return BlockPointer(*parts)

    @property
    def description(self) -> str:
        return f"a block pointer to {self.tensor._blocks}"


ATTRIBUTES: dict[str, Callable[[Descriptor], Any]] = {
    "shape": lambda d: d.shape,
    "strides": lambda d: d.strides,
    "block_shape": lambda d: d.block_shape,
    "dtype": lambda d: d.element,
    "block_type": lambda d: d.block,
}
"""Attributes of tensor descriptors."""


# ---------------------------------------------------------------- parameters of kernels


@dataclass(frozen=True)
class DescriptorForm:
    """The type of a parameter that is a tensor descriptor, as the host gives it.

    `fixed` are the values of parts (see `part_names`) that the kernel is compiled for.
    """

    element: DType
    block_shape: tuple[int, ...]
    padding: str = "zero"
    fixed: Mapping[str, int] | None = None

    def __str__(self) -> str:
        padding = "" if self.padding == "zero" else f", {self.padding}"
        return f"tensordesc<{self.element}{list(self.block_shape)}{padding}>"

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.block_shape)


def part_names(name: str, rank: int, taken: Collection[str]) -> list[str]:
    """The names of the arguments that stand for the descriptor `name`: its pointer has its own
    name, then come the sizes and the strides, of which the last is 1 and no argument. `taken` are
    all names of parameters.
    """
    mark = "_"
    while any(other.startswith((f"{name}{mark}shape_", f"{name}{mark}stride_")) for other in taken):
        mark += "_"
    sizes = [f"{name}{mark}shape_{axis}" for axis in range(rank)]
    return [name, *sizes, *(f"{name}{mark}stride_{axis}" for axis in range(rank - 1))]


def add_arguments(
    block: core.Block,
    form: DescriptorForm,
    names: list[str],
    facts: Mapping[str, Mapping[str, int]],
    location: Location,
) -> Descriptor:
    """The descriptor that a kernel gets as arguments of these names, made at its entry."""
    fixed = form.fixed or {}

    def part(name: str, type: Type) -> Tensor:
        if name in fixed:
            return known(fixed[name], type)
        argument = block.add_argument(type, location, name)
        argument.facts = dict(facts.get(name, {}))
        return Tensor(type, argument)

    base = part(names[0], PointerType(form.element))
    shape = tuple(part(name, i32) for name in names[1 : 1 + form.rank])
    strides = tuple(part(name, i64) for name in names[1 + form.rank :])
    described = Descriptor(
        base,
        shape,
        (*strides, known(1, i64)),
        form.block_shape,
        form.padding,
        has_rows=True,
    )
    with emission.builder().at(location):
        return described.build()
