"""Tensor maps: what the tensor memory accelerator must know of a tensor, encoded by the driver.

A compiled kernel has a recipe for each map that it takes: expressions on its arguments (see
`blocklang/ir/analysis/host.py`), and how the accelerator is to move boxes of the tensor. A launch
computes them, has the driver encode 128 bytes, and passes these behind the ordinary parameters.
Both are remembered, by the values of the arguments and by what was encoded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from blocklang.ir.analysis.host import arguments_of, host_function
from blocklang.ir.types import DType, dtype
from blocklang.runtime import cuda
from blocklang.runtime.errors import TensorMapError

MAP_BYTES: Final = 128
ALIGNMENT: Final = 64
_MOST_LAUNCHES: Final = 1024

_ELEMENTS: Final = {
    "u16": "UINT16",
    "u32": "UINT32",
    "i32": "INT32",
    "u64": "UINT64",
    "i64": "INT64",
    "f16": "FLOAT16",
    "bf16": "BFLOAT16",
    "f32": "FLOAT32",
    "f64": "FLOAT64",
}
_SWIZZLES: Final = {0: "NONE", 32: "32B", 64: "64B", 128: "128B"}

Numbers = tuple[int, ...]


def _aligned(encoded: bytes) -> Any:
    """The bytes as a ctypes array, aligned as the driver wants them."""
    memory = bytearray(MAP_BYTES + ALIGNMENT)
    start = ctypes.addressof(ctypes.c_byte.from_buffer(memory))
    offset = -start % ALIGNMENT
    memory[offset : offset + MAP_BYTES] = encoded
    return (ctypes.c_byte * MAP_BYTES).from_buffer(memory, offset)


class TensorMaps:
    """The maps of one compiled kernel, made from its recipes.

    `used` are the indices of the machine code's parameters on which they depend.
    """

    def __init__(self, recipes: Sequence[Mapping[str, Any]]) -> None:
        self._recipes = [_Recipe(recipe) for recipe in recipes]
        self.used = sorted(set().union(*(recipe.arguments for recipe in self._recipes)))
        self._made: dict[Numbers, Sequence[Any]] = {}

    def encode(self, arguments: Sequence[Any], names: Sequence[str], kernel: str) -> Sequence[Any]:
        """The maps, as ctypes objects, for arguments in the order of the machine code's parameters.

        `names` are those of the arguments. Raises TensorMapError where one cannot be encoded.
        """
        key = tuple(arguments[index] for index in self.used)
        made = self._made.get(key)
        if made is None:
            made = [recipe.encode(arguments, names, kernel) for recipe in self._recipes]
            if len(self._made) >= _MOST_LAUNCHES:
                self._made.clear()
            self._made[key] = made
        return made


class _Recipe:
    """How one map follows from the arguments."""

    def __init__(self, recipe: Mapping[str, Any]) -> None:
        self.pointer = host_function(recipe["pointer"])
        self.shape = list(map(host_function, recipe["shape"]))
        self.strides = list(map(host_function, recipe["strides"]))
        self.fixed = (
            dtype(recipe["element"]),
            tuple(recipe["axes"]),
            tuple(recipe["box"]),
            recipe["swizzle"],
            recipe["padding"],
            recipe["rounding"],
        )
        expressions = [recipe["pointer"], *recipe["shape"], *recipe["strides"]]
        self.arguments = set().union(*map(arguments_of, expressions))
        # The tensor has the name of the argument that points to it.
        self.named = min(arguments_of(recipe["pointer"]), default=None)
        self._measured = sorted(set().union(*map(arguments_of, expressions[1:])))
        self._measures: tuple[Numbers, tuple[Numbers, Numbers]] | None = None

    def encode(self, arguments: Sequence[Any], names: Sequence[str], kernel: str) -> Any:
        try:
            return encode(self.pointer(arguments), *self._measure(arguments), *self.fixed)
        except TensorMapError as error:
            tensor = "a tensor" if self.named is None else repr(names[self.named])
            raise TensorMapError(
                f"{kernel} cannot copy {tensor} with the tensor memory accelerator: "
                f"{error.message}",
                error.help,
            ) from None

    def _measure(self, arguments: Sequence[Any]) -> tuple[Numbers, Numbers]:
        """Shape and strides; the last are kept, for launches that differ in the pointer only."""
        key = tuple(arguments[index] for index in self._measured)
        last = self._measures
        if last is not None and last[0] == key:
            return last[1]
        shape = tuple(function(arguments) for function in self.shape)
        measures = shape, tuple(function(arguments) for function in self.strides)
        self._measures = key, measures
        return measures


@lru_cache(maxsize=4096)
def encode(
    pointer: int,
    shape: Numbers,
    strides: Numbers,
    element: DType,
    axes: Numbers,
    box: Numbers,
    swizzle: int,
    padding: str,
    rounding: str = "",
) -> Any:
    """The map of the tensor at `pointer`, as a ctypes array of 128 bytes.

    `shape` and `strides` (in elements) are by axis of the tensor; `axes` lists the axes of the map
    from slowest to fastest, and `box` what one copy moves along each. `swizzle` is in bytes. With
    `rounding` "tf32", float32 is rounded to that where it is copied to shared memory.
    Raises TensorMapError where the accelerator cannot do it.
    """
    _check(pointer, shape, strides, element, axes)
    driver = cuda.driver()
    sizes = [shape[axis] for axis in reversed(axes)]
    steps = [strides[axis] * element.bytes for axis in reversed(axes)][1:]
    if 0 in sizes:
        pointer, sizes, steps = _nothing(padding), [1] * len(axes), [16] * (len(axes) - 1)
    # One dimension has no stride, but the driver refuses a null pointer, which an empty list is.
    steps = steps or [16]
    kind = "TFLOAT32" if rounding else _ELEMENTS.get(element.name, "UINT8")
    made = cuda.call(
        "cuTensorMapEncodeTiled",
        _enumerator("CUtensorMapDataType", f"DATA_TYPE_{kind}"),
        len(axes),
        pointer,
        [driver.cuuint64_t(size) for size in sizes],
        [driver.cuuint64_t(step) for step in steps],
        [driver.cuuint32_t(size) for size in reversed(box)],
        [driver.cuuint32_t(1)] * len(axes),
        _enumerator("CUtensorMapInterleave", "INTERLEAVE_NONE"),
        _enumerator("CUtensorMapSwizzle", f"SWIZZLE_{_SWIZZLES[swizzle]}"),
        _enumerator("CUtensorMapL2promotion", "L2_PROMOTION_L2_128B"),
        _enumerator(
            "CUtensorMapFloatOOBfill",
            "FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA" if padding == "nan" else "FLOAT_OOB_FILL_NONE",
        ),
    )
    return _aligned(ctypes.string_at(int(made.getPtr()), MAP_BYTES))


def _nothing(padding: str) -> int:
    """The address of memory that stands for an empty tensor, which has none that may be read.

    A map has at least one element: it has the value of what is outside.
    """
    address = int(cuda.call("cuMemAlloc", 16))
    cuda.call("cuMemsetD8", address, 255 if padding == "nan" else 0, 16)
    return address


def _enumerator(enumeration: str, name: str) -> Any:
    return getattr(getattr(cuda.driver(), enumeration), f"CU_TENSOR_MAP_{name}")


def _check(pointer: int, shape: Numbers, strides: Numbers, element: DType, axes: Numbers) -> None:
    if pointer % 16:
        raise TensorMapError(
            f"its address {pointer:#x} is no multiple of 16 bytes",
            "pass an array that begins at such an address, not a slice of one",
        )
    for axis in axes[:-1]:
        step = strides[axis] * element.bytes
        if step % 16 or not 0 <= step < 2**40:
            raise TensorMapError(
                f"its stride along axis {axis} is {step} bytes, which is no multiple of 16 from 0 "
                "to 2**40",
                "pad the rows of the array",
            )
    if strides[axes[-1]] != 1:
        raise TensorMapError(
            f"its stride along axis {axes[-1]} is {strides[axes[-1]]} elements, and not 1",
            "pass an array whose rows are contiguous",
        )
    if min(shape) < 0:
        raise TensorMapError(f"its shape is {list(shape)}", "sizes are 0 or more")
