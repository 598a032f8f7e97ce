"""Tensor descriptors and block pointers: whole blocks of a tensor in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from blocklang.frontend import emission
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import cast, tensor, weak
from blocklang.frontend.descriptors import BlockPointer, Descriptor
from blocklang.frontend.errors.descriptors import (
    DescriptorRank,
    LastStride,
    NotADescriptor,
    PaddingNotFloat,
    WrongOrder,
)
from blocklang.frontend.errors.operations import (
    AtomicType,
    AxisOutOfRange,
    NotAPointer,
    UnknownOption,
)
from blocklang.frontend.errors.types import WrongArgumentType
from blocklang.frontend.operators import binary
from blocklang.frontend.shapes import broadcast_to, check_sizes
from blocklang.frontend.values import Tensor, describe, element_text, is_number
from blocklang.ir.ops.descriptor import DescriptorLoad, DescriptorReduce, DescriptorStore
from blocklang.ir.types import DType, PointerType, i1, i32, i64

from .registry import blame, blaming, builtin

METHODS: dict[str, Callable[..., Any]] = {}
"""The methods of tensor descriptors."""

MAX_RANK = 5
PADDINGS = ("zero", "nan")


@builtin
def make_tensor_descriptor(
    base: Any,
    shape: Any,
    strides: Any,
    block_shape: Static[Any],
    padding_option: Static[str] = "zero",
) -> Descriptor:
    """Describe the tensor of `shape` that starts at `base`, to load and store whole blocks of it.

    `strides` are the distances between neighbours along each axis, in elements; the last is 1.
    Sizes are below 2**31. `block_shape` is known at compile time. What lies outside the tensor is
    read as zero, or as NaN with `padding_option="nan"`, and is not written. The result has the
    methods `load([i, j])`, `store([i, j], block)` and `atomic_add([i, j], block)`, whose offsets
    are the coordinates of the block's first element (any integers, also negative), and the
    attributes `shape`, `strides`, `block_shape` and `dtype`.

    Example: `rows = bl.make_tensor_descriptor(x_pointer, [m, n], [n, 1], [16, 64])`
    """
    made = _tensor("make_tensor_descriptor", base, shape, strides, block_shape)
    last = made.strides[-1]
    if last.constant != 1:
        found = describe(strides[-1]) if last.constant is None else str(last.constant)
        instead = "transpose the shape so that neighbours come last, or use make_block_ptr()"
        if last.constant is None:
            instead = "write 1, or launch with an argument that is 1 and specialised to it"
        raise blame("strides", LastStride(found=found, instead=instead))
    return replace(made, padding=_padding(made, padding_option), has_rows=True).build()


@builtin
def load_tensor_descriptor(desc: Any, offsets: Any) -> Tensor:
    """Read the block of a tensor descriptor whose first element is at `offsets`: `desc.load`.

    Example: `block = bl.load_tensor_descriptor(rows, [i, j])`
    """
    return load_block(_descriptor("load_tensor_descriptor", desc), offsets)


@builtin
def store_tensor_descriptor(desc: Any, offsets: Any, value: Any) -> None:
    """Write a block of a tensor descriptor, whose first element is at `offsets`: `desc.store`.

    Example: `bl.store_tensor_descriptor(rows, [i, j], block)`
    """
    store_block(_descriptor("store_tensor_descriptor", desc), offsets, value)


@builtin(methods=METHODS)
def load(descriptor: Any, offsets: Any) -> Tensor:
    """Read the block whose first element has the coordinates `offsets`, one for each dimension.

    Elements outside the tensor are the descriptor's padding.

    Example: `block = rows.load([i, j])`
    """
    return load_block(descriptor, offsets)


@builtin(methods=METHODS)
def store(descriptor: Any, offsets: Any, value: Any) -> None:
    """Write `value`, converted to the element type and broadcast to the block's shape, to the block
    whose first element has the coordinates `offsets`. Elements outside the tensor are not written.

    Example: `rows.store([i, j], block * 2)`
    """
    store_block(descriptor, offsets, value)


@builtin(methods=METHODS)
def atomic_add(descriptor: Any, offsets: Any, value: Any) -> None:
    """Add `value` to the block at `offsets`, each element in one indivisible step.

    Example: `sums.atomic_add([0, j], block)`
    """
    element = descriptor.element
    if element.bits < (16 if element.is_float else 32):
        raise blame("descriptor", AtomicType(dtype=element_text(element)))
    indices = _scalars("offsets", offsets, i32, descriptor)
    added = _block_of(value, descriptor)
    emission.builder().insert(
        DescriptorReduce(
            descriptor.handle,
            tuple(map(emission.ir, indices)),
            value=emission.ir(added),
            kind="add",
            loc=emission.location(),
        )
    )


@builtin
def make_block_ptr(
    base: Any,
    shape: Any,
    strides: Any,
    offsets: Any,
    block_shape: Static[Any],
    order: Static[Any],
) -> BlockPointer:
    """Point to the block at `offsets` of a tensor, for `load`, `store` and `advance`.

    The tensor starts at `base` and has a `shape` and `strides` (any, in elements). `order` lists
    the axes from the fastest to the slowest; it says nothing that the strides do not, and is there
    for kernels that were written for other compilers.

    Example: `rows = bl.make_block_ptr(x_pointer, [m, n], [n, 1], [0, 0], [16, 64], order=[1, 0])`
    """
    described = _tensor("make_block_ptr", base, shape, strides, block_shape)
    rank = len(described.block_shape)
    if not isinstance(order, tuple) or sorted(order, key=repr) != list(range(rank)):
        shown = list(order) if isinstance(order, tuple) else order
        suggestion = list(reversed(range(rank)))
        raise blame("order", WrongOrder(found=shown, rank=rank, suggestion=suggestion))
    return BlockPointer(described.build(), _scalars("offsets", offsets, i32, described))


@builtin
def advance(base: Any, offsets: Any) -> BlockPointer:
    """A block pointer further along: `offsets` are added to those of the block pointer `base`.

    Example: `rows = bl.advance(rows, [0, 64])`
    """
    if not isinstance(base, BlockPointer):
        instead = "add to other pointers: pointer + 64"
        error = NotADescriptor(
            function="advance", expected="a block pointer", found=describe(base), instead=instead
        )
        raise blame("base", error)
    steps = _scalars("offsets", offsets, i32, base.tensor)
    # What does not move stays the same value, so that loops need not carry it.
    moved = (
        old if step.constant == 0 else binary("+", old, step)
        for old, step in zip(base.offsets, steps, strict=True)
    )
    return BlockPointer(base.tensor, tuple(moved))


def load_block(descriptor: Descriptor, offsets: Any, unchecked: tuple[int, ...] = ()) -> Tensor:
    """A block in the element type of the descriptor."""
    indices = _scalars("offsets", offsets, i32, descriptor)
    loaded = emission.emit(
        DescriptorLoad(
            descriptor.handle,
            tuple(map(emission.ir, indices)),
            unchecked,
            loc=emission.location(),
        )
    )
    return cast(loaded, descriptor.element)


def store_block(
    descriptor: Descriptor, offsets: Any, value: Any, unchecked: tuple[int, ...] = ()
) -> None:
    """Write `value`, converted and broadcast, to a block."""
    indices = _scalars("offsets", offsets, i32, descriptor)
    stored = _block_of(value, descriptor)
    emission.builder().insert(
        DescriptorStore(
            descriptor.handle,
            tuple(map(emission.ir, indices)),
            unchecked,
            value=emission.ir(stored),
            loc=emission.location(),
        )
    )


def load_block_pointer(pointer: BlockPointer, checked: Any, padding: Any) -> Tensor:
    """`load` of a block pointer; `checked` and `padding` are options of `load`."""
    described = pointer.tensor
    unchecked = _unchecked(pointer, checked)
    wanted = _padding(described, padding) if padding else "zero"
    if wanted != described.padding:
        described = replace(described, padding=wanted, made=None)
    return load_block(described, pointer.offsets, unchecked)


def store_block_pointer(pointer: BlockPointer, value: Any, checked: Any) -> None:
    """`store` through a block pointer."""
    store_block(pointer.tensor, pointer.offsets, value, _unchecked(pointer, checked))


# ---------------------------------------------------------------- arguments


def _tensor(function: str, base: Any, shape: Any, strides: Any, block_shape: Any) -> Descriptor:
    is_pointer = isinstance(base, Tensor) and isinstance(base.type, PointerType)
    if not is_pointer or not isinstance(base.type.element, DType):
        instead = "the arrays given to the kernel are pointers to numbers"
        raise blame("base", NotAPointer(function=function, found=describe(base), instead=instead))
    with blaming("block_shape"):
        whole = isinstance(block_shape, tuple) and all(type(n) is int for n in block_shape)
        if not whole or not 1 <= len(block_shape) <= MAX_RANK:
            raise DescriptorRank(
                argument="block_shape",
                found=describe(block_shape),
                expected=f"1 to {MAX_RANK} sizes that are known at compile time",
                instead="write, for example, [16, 64]",
            )
        check_sizes(block_shape)
    described = Descriptor(base, (), (), block_shape)
    return replace(
        described,
        shape=_scalars("shape", shape, i32, described),
        strides=_scalars("strides", strides, i64, described),
    )


def _descriptor(function: str, value: Any) -> Descriptor:
    if not isinstance(value, Descriptor):
        instead = "make one with make_tensor_descriptor(), or pass a TensorDescriptor to the kernel"
        error = NotADescriptor(
            function=function,
            expected="a tensor descriptor",
            found=describe(value),
            instead=instead,
        )
        raise blame("desc", error)
    return value


def _scalars(
    argument: str, values: Any, dtype: DType, descriptor: Descriptor
) -> tuple[Tensor, ...]:
    """An integer of `dtype` for each dimension."""
    rank = len(descriptor.block_shape)
    with blaming(argument):
        if not isinstance(values, tuple) or len(values) != rank:
            entries = "entry" if rank == 1 else "entries"
            raise DescriptorRank(
                argument=argument,
                found=describe(values),
                expected=f"{rank} {entries}, one for each dimension of the block",
                instead=f"the blocks have the shape {list(descriptor.block_shape)}",
            )
        return tuple(_scalar(argument, value, dtype) for value in values)


def _scalar(argument: str, value: Any, dtype: DType) -> Tensor:
    found = tensor(value, f"an entry of '{argument}'")
    kind = found.dtype
    if found.is_block or not isinstance(kind, DType) or not kind.is_integer:
        raise WrongArgumentType(
            what=f"an entry of '{argument}'",
            expected="an integer",
            found=describe(value),
            instead="the whole block has one place; give the coordinates of its first element",
        )
    # A variable that holds a number counts as one.
    number = value if is_number(value) else found.known
    return cast(found, dtype) if number is None else weak(number, dtype)


def _padding(descriptor: Descriptor, option: Any) -> str:
    if option not in PADDINGS:
        listed = ", ".join(map(repr, PADDINGS))
        error = UnknownOption(found=option, option="padding", choices=listed)
        raise blame("padding_option", error)
    if option == "nan" and not descriptor.element.is_float:
        dtype = element_text(descriptor.element)
        raise blame("padding_option", PaddingNotFloat(dtype=dtype))
    return str(option)


def _unchecked(pointer: BlockPointer, checked: Any) -> tuple[int, ...]:
    rank = len(pointer.tensor.block_shape)
    axes = checked if isinstance(checked, tuple) else (checked,)
    for axis in axes:
        if type(axis) is not int or not -rank <= axis < rank:
            instead = f"its axes are 0 to {rank - 1}" if rank > 1 else "its only axis is 0"
            error = AxisOutOfRange(axis=axis, found=describe(pointer), instead=instead)
            raise blame("boundary_check", error)
    named = {axis % rank for axis in axes}
    return tuple(axis for axis in range(rank) if axis not in named)


def _block_of(value: Any, descriptor: Descriptor) -> Tensor:
    """`value` as a block of the descriptor, in the dtype of its memory."""
    with blaming("value"):
        number = tensor(value, "the block")
        if number.is_pointer:
            raise WrongArgumentType(
                what="the block",
                expected=f"a block of {element_text(descriptor.element)}",
                found=describe(number),
                instead="load() what it points to first",
            )
        if descriptor.element == i1:
            number = cast(number, i1)
        return broadcast_to(cast(number, descriptor.stored), descriptor.block_shape)
