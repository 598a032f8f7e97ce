"""Tensor descriptors made by the host: a tensor in memory and the blocks in which kernels use it.

A launch turns one into ordinary arguments: a pointer, sizes as i32, strides as i64. The last stride
is 1 and no argument.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from blocklang.runtime import cuda, dlpack
from blocklang.runtime.errors import DescriptorError

PADDINGS: Final = ("zero", "nan")
MAX_RANK: Final = 5


@dataclass(eq=False)
class TensorDescriptor:
    """The tensor of `shape` in the array `base`, cut into blocks of `block_shape`.

    `strides` are distances between neighbours in elements; the last is 1. `base` is an array of
    NumPy, torch, CuPy or DLPack whose first element is that of the tensor; it may have any shape.
    What kernels load from outside the tensor is 0, or NaN with `padding="nan"`. All but `base` may
    be assigned to before a launch. Raises DescriptorError, a LaunchError.

    Example: `TensorDescriptor(x, [1000, 512], [512, 1], [64, 64])`
    """

    base: Any
    shape: Sequence[int]
    strides: Sequence[int]
    block_shape: Sequence[int]
    padding: str = "zero"

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def from_tensor(
        cls, tensor: Any, block_shape: Sequence[int], padding: str = "zero"
    ) -> TensorDescriptor:
        """The descriptor of a whole array, with its own shape and strides.

        Example: `TensorDescriptor.from_tensor(x, [64, 64])`
        """
        strides = element_strides(tensor)
        return cls(tensor, tuple(tensor.shape), strides, block_shape, padding)

    def check(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shape, strides and block shape as integers. DescriptorError where they are wrong."""
        shape = _integers("shape", self.shape)
        strides = _integers("strides", self.strides)
        block = _integers("block_shape", self.block_shape)
        _check_numbers(shape, strides, block)
        if self.padding not in PADDINGS:
            raise DescriptorError(f"{self.padding!r} is no padding", "it is 'zero' or 'nan'")
        return shape, strides, block


@lru_cache(maxsize=4096)
def _check_numbers(
    shape: tuple[int, ...], strides: tuple[int, ...], block: tuple[int, ...]
) -> None:
    """Raise DescriptorError where they are wrong; what was right once is not looked at again."""
    if not 1 <= len(block) <= MAX_RANK or not len(shape) == len(strides) == len(block):
        raise DescriptorError(
            f"a tensor descriptor has shape {list(shape)}, strides {list(strides)} and block "
            f"shape {list(block)}",
            f"give each an entry for each dimension, 1 to {MAX_RANK} of them",
        )
    if strides[-1] != 1:
        raise DescriptorError(
            f"the last stride of a tensor descriptor is {strides[-1]}",
            "it must be 1: transpose the array, or make a contiguous copy",
        )
    if min(shape) < 0 or max(shape) >= 2**31:
        raise DescriptorError(
            f"a tensor descriptor has the shape {list(shape)}", "sizes are from 0 to 2147483647"
        )
    for size in block:
        if size <= 0 or size & (size - 1):
            raise DescriptorError(
                f"{list(block)} is no block shape: {size} is no power of two",
                "use powers of two; what lies outside the tensor is padded",
            )


def element_strides(array: Any) -> tuple[int, ...]:
    """The distances between neighbours along each axis of an array, in elements."""
    if hasattr(array, "stride") and hasattr(array, "element_size"):
        return tuple(array.stride())
    interface = getattr(array, "__array_interface__", None)
    if interface is None:
        interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        if hasattr(array, "__dlpack__"):
            return dlpack.element_strides(array, cuda.current_stream)
        raise DescriptorError(
            f"{array!r} is no array with strides",
            "pass an array (NumPy, torch, CuPy, DLPack), or give shape and strides",
        )
    size = np.dtype(interface["typestr"]).itemsize
    strides = interface.get("strides")
    if strides is None:
        return contiguous_strides(interface["shape"])
    if any(stride % size for stride in strides):
        raise DescriptorError(
            f"the strides {list(strides)} are no multiples of the {size} bytes of an element",
            "make a contiguous copy of the array",
        )
    return tuple(stride // size for stride in strides)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array whose rows lie one after the other."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides[: len(shape)]))


def _integers(name: str, values: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, values))
    except TypeError:
        raise DescriptorError(
            f"the {name} of a tensor descriptor is {values!r}", "give a list of integers"
        ) from None
