"""Submitting one launch on the general path: packed parameters, context, stream, cuLaunchKernel.

The fast path in `native.py` does the same for the usual case. Parameters are packed alike for
both targets: one slot of 8 bytes each, the value in its first bytes.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np

from blocklang.codegen.targets import MAX_GRID
from blocklang.ir.types import dtype as named_dtype
from blocklang.runtime import cuda
from blocklang.runtime.arrays import Argument
from blocklang.runtime.errors import GridError
from blocklang.runtime.module import Function
from blocklang.runtime.tensor_map import TensorMaps

Grid = tuple[int, int, int]

_SLOT: Final = 8

_STRUCT_FORMATS: Final = {
    "i1": "?",
    "i8": "b",
    "i16": "h",
    "i32": "i",
    "i64": "q",
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "ptr": "Q",
    "f16": "H",
    "bf16": "H",
    "f8e4m3": "B",
    "f8e5m2": "B",
    "f32": "f",
    "f64": "d",
}

_FILLERS: Final = {code: f"{_SLOT - struct.calcsize(code)}x" for code in "?bhiqBHIQfd"}
_NARROW_FLOATS: Final = ("f16", "bf16", "f8e4m3", "f8e5m2")

_loading = threading.RLock()


class GpuKernel(Protocol):
    """What submitting to a GPU needs to know of a compiled kernel.

    `parameters` has for each parameter of the machine code the index of the argument that it
    takes and its type: an IR scalar type, or "ptr". `threads` is the number in one block of
    threads, `num_ctas` that of such blocks in one program.
    `tensor_maps` makes the parameters that follow these; None where there are none.
    """

    function: Function
    threads: int
    num_ctas: int
    parameters: Sequence[tuple[int, str]]
    tensor_maps: TensorMaps | None


class Packer:
    """Packs the arguments of one compiled kernel into slots, as its `parameters` say."""

    def __init__(self, parameters: Sequence[tuple[int, str]]) -> None:
        self.parameters = tuple(parameters)
        self._indices = [index for index, _ in parameters]
        # Each value is followed by bytes that fill up its slot.
        formats = [(code := _STRUCT_FORMATS[dtype]) + _FILLERS[code] for _, dtype in parameters]
        self._struct = struct.Struct("<" + "".join(formats))
        self._type = ctypes.c_uint64 * max(len(parameters), 1)
        self._plain = all(dtype not in _NARROW_FLOATS for _, dtype in parameters)

    def pack(self, arguments: Sequence[Any]) -> Any:
        """The values as a ctypes array of 8-byte slots, which owns its memory.

        `arguments` have a `value`. Floats are rounded to nearest even, and to infinity. Raises
        struct.error for an integer that does not fit.
        """
        slots = self._type()
        values = [arguments[index].value for index in self._indices]
        if not self._plain:
            values = [
                value if dtype not in _NARROW_FLOATS else _narrow_float(value, dtype)
                for value, (_, dtype) in zip(values, self.parameters, strict=True)
            ]
        try:
            self._struct.pack_into(slots, 0, *values)
        except OverflowError:
            # struct does not round what is too large for a float to infinity.
            values = [
                ctypes.c_float(value).value if dtype == "f32" else value
                for value, (_, dtype) in zip(values, self.parameters, strict=True)
            ]
            self._struct.pack_into(slots, 0, *values)
        return slots


def _narrow_float(value: float, dtype: str) -> int:
    """The bits of a float of 8 or 16 bits."""
    with np.errstate(over="ignore"):
        narrow = np.array(value, named_dtype(dtype).numpy)
    return int.from_bytes(narrow.tobytes(), "little")


def check_grid(grid: Grid, kernel: str, num_ctas: int) -> None:
    """Raise GridError where programs of `num_ctas` blocks each are more than CUDA can launch."""
    limits = (MAX_GRID[0] // num_ctas, *MAX_GRID[1:])
    for axis, size, limit in zip("xyz", grid, limits, strict=True):
        if size > limit:
            raise GridError(
                f"the grid of {kernel} has {size} programs along {axis}; a GPU allows {limit}",
                f"put the largest extent first: axis 0 allows {limits[0]}"
                if axis != "x"
                else "give each program more work, or launch several times",
            )


def submit(
    name: str,
    kernel: GpuKernel,
    grid: Grid,
    stream: int,
    slots: Any,
    context: int,
    maps: Sequence[Any] = (),
) -> None:
    """Launch `kernel` on `stream` from the current `context`; CudaError if the driver refuses.

    `maps` are the ctypes objects of its tensor maps, which follow the ordinary parameters.
    """
    count = len(kernel.parameters)
    start = ctypes.addressof(slots)
    places = [start + _SLOT * i for i in range(count)] + [ctypes.addressof(m) for m in maps]
    pointers = (ctypes.c_void_p * max(len(places), 1))(*places)
    # A kernel is loaded when it is first asked for its function, and unloaded with this object: two
    # threads must not both load it, of which one would go with its launch hardly begun.
    function: Function | None = vars(kernel).get("function")
    if function is None:
        with _loading:
            function = kernel.function
    if context != function.context:
        with cuda.pushed(function.context):
            _launch(name, kernel, function, grid, stream, ctypes.addressof(pointers))
    else:
        _launch(name, kernel, function, grid, stream, ctypes.addressof(pointers))


def _launch(
    name: str, kernel: GpuKernel, function: Function, grid: Grid, stream: int, pointers: int
) -> None:
    shape = (grid[0] * kernel.num_ctas, *grid[1:], kernel.threads, 1, 1)
    (status,) = cuda.driver().cuLaunchKernel(
        function.handle, *shape, function.shared_bytes, stream, pointers, 0
    )
    if status != 0:
        raise cuda.cuda_error(
            f"launching {name} with {grid[0]} x {grid[1]} x {grid[2]} programs of "
            f"{kernel.threads} threads",
            int(status),
        )


def choose_stream(stream: Any, device: int, values: Sequence[Any]) -> int:
    """The handle of the stream to launch on: the given one, or that of the arrays' library."""
    if stream is not None:
        return cuda.stream_handle(stream)
    return cuda.current_stream(device, values)


def wait_for_producers(arguments: Sequence[Argument | None], stream: int) -> None:
    """Wait for the streams that arrays of other libraries say are still writing them."""
    for argument in arguments:
        if argument is None or argument.stream is None:
            continue
        # The protocol writes the default stream as 1.
        producer = 0 if argument.stream == 1 else argument.stream
        if producer != stream:
            cuda.synchronize(producer)
