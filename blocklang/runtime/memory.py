"""GPU memory for programs that have no array library: allocate, copy, free.

`DeviceArray` is a contiguous NumPy-shaped array on one GPU and nothing more; kernels do the rest.
It speaks `__cuda_array_interface__`, so that torch, CuPy and Numba can use it without a copy.
"""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from blocklang.runtime import cuda
from blocklang.runtime.errors import CudaError


class DeviceArray:
    """A C-contiguous array in the memory of one GPU, freed with the object.

    `data_ptr()`, `get_device()` and `dtype` are named as in torch: the launcher reads both alike.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, device: int) -> None:
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        self._device = device
        with cuda.activated(device) as context:
            # The driver refuses to allocate nothing.
            self._address = int(cuda.call("cuMemAlloc", max(self.nbytes, 1)))
        weakref.finalize(self, _free, self._address, context).atexit = False

    def data_ptr(self) -> int:
        """The address on the GPU."""
        return self._address

    def get_device(self) -> int:
        """The number of the GPU."""
        return self._device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._address, False),
            "strides": None,
            "stream": None,
        }

    def to_host(self) -> npt.NDArray[Any]:
        """Wait for all work on the GPU and return a copy as a NumPy array."""
        result = np.empty(self.shape, self.dtype)
        with cuda.activated(self._device):
            cuda.synchronize()
            if self.nbytes:
                cuda.call("cuMemcpyDtoH", result.ctypes.data, self._address, self.nbytes)
        return result

    def copy_from(self, array: npt.ArrayLike) -> None:
        """Overwrite the contents, after all work on the GPU; shape and dtype must be equal."""
        source = np.ascontiguousarray(array)
        # ascontiguousarray makes a scalar one-dimensional.
        source = source.reshape(np.shape(array))
        if (source.shape, source.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"expected {self.dtype} of shape {self.shape}, "
                f"got {source.dtype} of shape {source.shape}"
            )
        with cuda.activated(self._device):
            cuda.synchronize()
            if self.nbytes:
                cuda.call("cuMemcpyHtoD", self._address, source.ctypes.data, self.nbytes)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self._device})"


def empty(
    shape: int | tuple[int, ...], dtype: npt.DTypeLike, device: int | None = None
) -> DeviceArray:
    """An uninitialised array on GPU `device` (by default the current one)."""
    ordinal = cuda.current_device() if device is None else device
    return DeviceArray((shape,) if isinstance(shape, int) else tuple(shape), dtype, ordinal)


def device_array(array: npt.ArrayLike, device: int | None = None) -> DeviceArray:
    """A copy of a NumPy array on GPU `device` (by default the current one)."""
    source = np.asarray(array)
    result = empty(source.shape, source.dtype, device)
    result.copy_from(source)
    return result


def _free(address: int, context: int) -> None:
    # Whoever owned the context may have destroyed it, and its memory with it.
    with suppress(CudaError), cuda.pushed(context):
        cuda.call("cuMemFree", address)
