"""Reading arrays of other libraries through DLPack, the protocol that array libraries share.

An array is borrowed, not taken: the capsule stays unconsumed, so that it releases the exporter's
memory itself when it is dropped. A launch reads only what a kernel needs: no shape, no strides.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from blocklang.runtime.errors import ArgumentTypeError

# DLDeviceType: memory that the host reads, and memory that a CUDA kernel reads.
_HOST_MEMORY = {1: "CPU", 3: "pinned host memory"}
_CUDA_MEMORY = {2: "CUDA", 13: "CUDA managed memory"}

# DLDataTypeCode and bits -> the name that NumPy, ml_dtypes and torch share.
_DTYPES = {
    **{(0, bits): f"int{bits}" for bits in (8, 16, 32, 64)},
    **{(1, bits): f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"float{bits}" for bits in (16, 32, 64)},
    (4, 16): "bfloat16",
    (6, 8): "bool",
    (10, 8): "float8_e4m3fn",
    (12, 8): "float8_e5m2",
}


class Borrowed(NamedTuple):
    """A borrowed array, valid while `capsule` lives; `device` is a GPU's number, or None."""

    address: int
    dtype: str
    device: int | None
    writable: bool
    capsule: Any


class _Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    ]


class _VersionedTensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_READ_ONLY = 1


def borrow(array: Any, stream_of: Callable[[int], int]) -> Borrowed:
    """Borrow an object with `__dlpack__`, ready for use on the stream `stream_of(gpu)`.

    Raises ArgumentTypeError for memory that neither the host nor a CUDA kernel can read.
    """
    device_type, device_id = array.__dlpack_device__()
    on_gpu = int(device_type) in _CUDA_MEMORY
    if not on_gpu and int(device_type) not in _HOST_MEMORY:
        raise ArgumentTypeError(
            f"{type(array).__qualname__} lies on a device of DLPack type {int(device_type)}, "
            "which kernels cannot read",
            "move it to the host or to an NVIDIA GPU",
        )
    # DLPack writes the legacy default stream as 1: 0 is ambiguous and not allowed.
    keywords = {"stream": stream_of(device_id) or 1} if on_gpu else {}
    try:
        capsule = array.__dlpack__(max_version=(1, 0), **keywords)
    except TypeError:
        capsule = array.__dlpack__(**keywords)
    tensor, writable = _read(capsule)
    dtype = _DTYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    return Borrowed(
        address=(tensor.data or 0) + tensor.byte_offset,
        dtype=dtype or f"code {tensor.code}, {tensor.bits} bits, {tensor.lanes} lanes",
        device=device_id if on_gpu else None,
        writable=writable,
        capsule=capsule,
    )


def element_strides(array: Any, stream_of: Callable[[int], int]) -> tuple[int, ...]:
    """The strides of an object with `__dlpack__`, in elements."""
    borrowed = borrow(array, stream_of)
    tensor, _ = _read(borrowed.capsule)
    numbers = ctypes.c_int64 * tensor.ndim
    if tensor.strides:
        return tuple(numbers.from_address(tensor.strides))
    strides = [1]
    for size in reversed(numbers.from_address(tensor.shape)[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides[: tensor.ndim]))


def _read(capsule: Any) -> tuple[_Tensor, bool]:
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = get_name(capsule)
    address = get_pointer(capsule, name)
    if name == b"dltensor_versioned":
        versioned = _VersionedTensor.from_address(address)
        return versioned.tensor, not versioned.flags & _READ_ONLY
    return _Tensor.from_address(address), True
