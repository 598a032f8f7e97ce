"""Errors of tensor descriptors and block pointers (BL43x)."""

from __future__ import annotations

from .operations import OperationFamily


class NotADescriptor(OperationFamily, code="BL430"):
    """Blocks are loaded and stored through what `make_tensor_descriptor` gives, or the host."""

    message = "{function}() needs {expected}, and this is {found}"
    help = "{instead}"
    example = "load_tensor_descriptor(pointer, [0, 0])"


class DescriptorRank(OperationFamily, code="BL431"):
    """Sizes, strides, offsets and the shape of the block have one entry for each dimension."""

    message = "'{argument}' is {found}; expected {expected}"
    help = "{instead}"
    example = "descriptor.load([0])   where the blocks have two dimensions"


class LastStride(OperationFamily, code="BL432"):
    """The elements of a row lie side by side, so that whole rows can be copied at once.

    The last stride is the literal 1, a compile-time value, or an argument that is 1 at launch and
    for whose value code is specialised.
    """

    message = "the last stride of a tensor descriptor is {found}; expected 1"
    help = "{instead}"
    example = "make_tensor_descriptor(x, [m, n], [1, m], [16, 16])"


class PaddingNotFloat(OperationFamily, code="BL433"):
    """Only floats have a number that is not a number."""

    message = "padding with NaN needs floats, and the elements are {dtype}"
    help = "pad with 'zero'"
    example = "make_tensor_descriptor(int32_pointer, [n], [1], [16], padding_option='nan')"


class MaskWithBlockPointer(OperationFamily, code="BL434"):
    """What lies outside a tensor is told by its shape, not by a mask."""

    message = "'{argument}' is given with a block pointer"
    help = "name the axes to check in boundary_check, and what lies outside with padding_option"
    example = "load(block_pointer, mask=offsets < n)"


class WrongOrder(OperationFamily, code="BL435"):
    """`order` lists the axes from the fastest to the slowest, each once."""

    message = "the order {found} does not name each of the {rank} axes once"
    help = "for rows that lie side by side, write {suggestion}"
    example = "make_block_ptr(x, [m, n], [n, 1], [0, 0], [16, 16], [1, 1])"
