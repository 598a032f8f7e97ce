"""Tensor descriptors: a tensor in global memory of which whole blocks are loaded and stored.

Descriptors made in a kernel, those given by the host, and block pointers are all the same here. A
target with a tensor memory accelerator moves such blocks with it; elsewhere they become loads and
stores under masks.
"""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Value
from blocklang.ir.op import Effect, Op, attribute, operand, output, require
from blocklang.ir.types import BlockType, DescriptorType, DType, PointerType, Type, i32, i64


class MakeTensorDescriptor(Op, mnemonic="make_tensor_descriptor"):
    """The tensor at `pointer` of `shape` (i32 each) whose axes have `strides` (i64 each, counted
    in elements), cut into blocks of `block_shape`.
    """

    pointer: Value = operand()
    shape: tuple[Value, ...] = operand(variadic=True)
    strides: tuple[Value, ...] = operand(variadic=True)
    block_shape: tuple[int, ...] = attribute()
    padding: str = attribute(default="zero")  # zero, nan: what lies outside
    result = output()

    def infer(self) -> Sequence[Type]:
        assert isinstance(self.pointer.type, PointerType)
        element = self.pointer.type.element
        assert isinstance(element, DType)
        return [DescriptorType(self.block_shape, element)]

    def check(self) -> None:
        kind = self.pointer.type
        is_pointer = isinstance(kind, PointerType) and isinstance(kind.element, DType)
        require(is_pointer, "a pointer to the first element, which is a number")
        rank = len(self.block_shape)
        require(len(self.shape) == len(self.strides) == rank, "shape, strides, blocks: one rank")
        require(all(v.type == i32 for v in self.shape), "the shape is i32")
        require(all(v.type == i64 for v in self.strides), "the strides are i64")
        require(self.padding in ("zero", "nan"), "padding is zero or nan")


class DescriptorAccess(Op):
    """Base: one block, whose first element has the coordinates `indices` (i32 each; any integers).

    `unchecked` lists the axes along which the author promises that the block lies inside. The
    descriptor is the result of the op that makes it: none flows through control flow.
    """

    descriptor: Value = operand()
    indices: tuple[Value, ...] = operand(variadic=True)
    unchecked: tuple[int, ...] = attribute(default=())

    @property
    def block(self) -> BlockType:
        """The type of the block, without layout."""
        kind = self.descriptor.type
        assert isinstance(kind, DescriptorType)
        return BlockType(kind.shape, kind.element)

    def check(self) -> None:
        kind = self.descriptor.type
        require(isinstance(kind, DescriptorType), "the first operand is a descriptor")
        assert isinstance(kind, DescriptorType)
        require(len(self.indices) == len(kind.shape), "one index for each axis")
        require(all(v.type == i32 for v in self.indices), "indices are i32")
        require(all(0 <= axis < len(kind.shape) for axis in self.unchecked), "axes of the block")
        made = self.descriptor.owner
        require(isinstance(made, MakeTensorDescriptor), "the descriptor is made by its op")


class DescriptorLoad(DescriptorAccess, mnemonic="descriptor_load", effects=Effect.READ):
    """Reads a block; what lies outside the tensor is the descriptor's padding."""

    result = output()

    def infer(self) -> Sequence[Type]:
        return [self.block]


class DescriptorStore(DescriptorAccess, mnemonic="descriptor_store", effects=Effect.WRITE):
    """Writes a block, of which only what lies inside the tensor reaches memory."""

    value: Value = operand(kw_only=True)

    def check(self) -> None:
        super().check()
        block, own = self.value.type, self.block
        require(
            isinstance(block, BlockType)
            and (block.shape, block.element) == (own.shape, own.element),
            "the value is a block of the descriptor",
        )


class DescriptorReduce(
    DescriptorAccess, mnemonic="descriptor_reduce", effects=Effect.READ | Effect.WRITE
):
    """Combines a block into memory, each element in one indivisible step."""

    value: Value = operand(kw_only=True)
    kind: str = attribute(kw_only=True)  # add

    def check(self) -> None:
        super().check()
        block, own = self.value.type, self.block
        require(
            isinstance(block, BlockType)
            and (block.shape, block.element) == (own.shape, own.element),
            "the value is a block of the descriptor",
        )
        require(self.kind in ("add",), f"unknown kind {self.kind}")
