"""What a Python object is as a kernel argument: an array somewhere, a number, or nothing.

NumPy, torch, CuPy, `DeviceArray`, `__cuda_array_interface__` and DLPack are told apart by type
and protocol; no array library but NumPy is imported. Dtypes come out under their IR names. This
module decides neither what a kernel is compiled for (`specialise.py`) nor whether the arguments
of one launch fit together (`launcher.py`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from blocklang.runtime import cuda, dlpack
from blocklang.runtime.descriptor import TensorDescriptor
from blocklang.runtime.errors import ArgumentRangeError, ArgumentTypeError, DescriptorError
from blocklang.runtime.memory import DeviceArray

HOST: Final = -1

Kind = Literal["array", "integer", "float", "boolean", "none", "descriptor"]


class Argument(NamedTuple):
    """One classified argument.

    `value` is the address of an array, or the number, or the `Parts` of a tensor descriptor;
    `device` is a GPU's number or HOST, and means nothing for numbers. `stream`, where not None, is
    one whose work must end before the array is used, and `owner` is an object to keep alive until
    the launch has been made.
    """

    kind: Kind
    dtype: str
    value: Any
    device: int = HOST
    writable: bool = True
    stream: int | None = None
    owner: Any = None


class Parts(NamedTuple):
    """What a kernel gets of a tensor descriptor: pointer, sizes, and strides but for the last."""

    arguments: tuple[Argument, ...]
    block_shape: tuple[int, ...]
    padding: str


# The names that NumPy, ml_dtypes and torch share for element types -> names in the IR.
_IR_NAMES: Final = {
    "bool": "i1",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
}

_dtype_names: dict[Any, str] = {}
_classifiers: dict[type, Callable[[Any], Argument]] = {}


def dtype_name(dtype: Any) -> str:
    """The IR name of a dtype of NumPy, ml_dtypes or torch; ArgumentTypeError if it has none."""
    name = _dtype_names.get(dtype)
    if name is None:
        # torch prints "torch.float32"; NumPy's and ml_dtypes' dtypes have a name.
        own_name = getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]
        name = _IR_NAMES.get(own_name)
        if name is None or not getattr(dtype, "isnative", True):
            raise ArgumentTypeError(
                f"kernels have no element type for dtype {dtype}",
                "convert the array to one of " + ", ".join(_IR_NAMES),
            )
        _dtype_names[dtype] = name
    return name


def classify(value: Any) -> Argument:
    """Say what `value` is as a run-time argument; ArgumentTypeError if it cannot be one."""
    kind = type(value)
    classifier = _classifiers.get(kind)
    if classifier is None:
        classifier = _classifiers[kind] = _find_classifier(value)
    return classifier(value)


def integer_dtype(value: int) -> str:
    """The narrowest of i32, i64 and u64 that holds `value`, as in Triton."""
    if -(2**31) <= value < 2**31:
        return "i32"
    if -(2**63) <= value < 2**63:
        return "i64"
    if 0 <= value < 2**64:
        return "u64"
    raise ArgumentRangeError(
        f"{value} does not fit in 64 bits", "pass an array, or a float, instead of this integer"
    )


def extent(array: Any) -> tuple[int, int] | None:
    """The half-open range of byte addresses that the elements of a strided array lie in.

    None for objects whose shape and strides are not known here, and for empty arrays.
    """
    interface = getattr(array, "__array_interface__", None)
    if interface is None:
        interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        address, shape, strides = interface["data"][0], interface["shape"], interface["strides"]
        size = np.dtype(interface["typestr"]).itemsize
    elif hasattr(array, "element_size") and hasattr(array, "stride"):
        size = array.element_size()
        address, shape = array.data_ptr(), tuple(array.shape)
        strides = tuple(step * size for step in array.stride())
    else:
        return None
    if 0 in shape:
        return None
    if strides is None:
        return address, address + int(np.prod(shape, dtype=np.int64)) * size
    reaches = [(length - 1) * step for length, step in zip(shape, strides, strict=True)]
    lowest, highest = sum(min(0, r) for r in reaches), sum(max(0, r) for r in reaches)
    return address + lowest, address + highest + size


def _find_classifier(value: Any) -> Callable[[Any], Argument]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _classify_torch
    # NumPy scalars count as the Python number of the same value; float64 is even a subclass.
    if isinstance(value, bool | np.bool_):
        return lambda v: Argument("boolean", "i1", bool(v))
    if isinstance(value, int | np.integer):
        return _classify_integer
    if isinstance(value, float | np.floating) or _is_extended_float_scalar(value):
        return lambda v: Argument("float", "f32", float(v))
    if value is None:
        return lambda v: Argument("none", "none", None)
    if isinstance(value, np.ndarray):
        return _classify_numpy
    if isinstance(value, DeviceArray):
        return _classify_device_array
    if hasattr(value, "__cuda_array_interface__"):
        return _classify_cuda_array
    if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__"):
        return _classify_dlpack
    if isinstance(value, TensorDescriptor):
        return _classify_descriptor
    raise ArgumentTypeError(
        f"a kernel cannot take {type(value).__module__}.{type(value).__qualname__} as an argument",
        "pass an array (NumPy, torch, CuPy, DLPack), a number or None, "
        "or declare the parameter as constexpr",
    )


def _is_extended_float_scalar(value: Any) -> bool:
    return isinstance(value, np.generic) and dtype_name(value.dtype) in ("bf16", "f8e4m3", "f8e5m2")


def _classify_integer(value: Any) -> Argument:
    number = int(value)
    return Argument("integer", integer_dtype(number), number)


def _classify_descriptor(descriptor: Any) -> Argument:
    shape, strides, block_shape = descriptor.check()
    base = classify(descriptor.base)
    if base.kind != "array":
        raise DescriptorError(
            f"the base of a tensor descriptor is {descriptor.base!r}",
            "give an array (NumPy, torch, CuPy, DLPack)",
        )
    if descriptor.padding == "nan" and not base.dtype.startswith(("f", "bf")):
        raise DescriptorError(
            f"padding with NaN needs floats, and the elements are {base.dtype}", "pad with 'zero'"
        )
    parts = Parts((base, *_numbers(shape, strides)), block_shape, descriptor.padding)
    return base._replace(kind="descriptor", value=parts)


@functools.lru_cache(maxsize=4096)
def _numbers(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Argument, ...]:
    """The arguments of a descriptor besides its pointer; the same for the same numbers."""
    sizes = (Argument("integer", "i32", size) for size in shape)
    steps = (Argument("integer", "i64", stride) for stride in strides[:-1])
    return (*sizes, *steps)


def _classify_numpy(array: Any) -> Argument:
    address, read_only = array.__array_interface__["data"]
    return Argument("array", dtype_name(array.dtype), address, HOST, not read_only)


def _classify_torch(tensor: Any) -> Argument:
    address = tensor.data_ptr()
    if tensor.is_cuda:
        return Argument("array", dtype_name(tensor.dtype), address, tensor.get_device())
    if tensor.device.type != "cpu":
        raise ArgumentTypeError(
            f"a torch tensor is on {tensor.device}, which kernels cannot read",
            "move it to the CPU or to an NVIDIA GPU",
        )
    return Argument("array", dtype_name(tensor.dtype), address)


def _classify_device_array(array: DeviceArray) -> Argument:
    return Argument("array", dtype_name(array.dtype), array.data_ptr(), array.get_device())


def _classify_cuda_array(array: Any) -> Argument:
    interface = array.__cuda_array_interface__
    address, read_only = interface["data"]
    dtype = getattr(array, "dtype", None)
    name = dtype_name(np.dtype(interface["typestr"]) if dtype is None else dtype)
    place = getattr(array, "device", None)
    ordinal = getattr(place, "id", None)
    if not isinstance(ordinal, int):
        ordinal = cuda.pointer_device(address) if address else cuda.current_device()
    # CuPy works on its current stream, which is the one that the launch goes to.
    of_cupy = type(array).__module__.partition(".")[0] == "cupy"
    stream = None if of_cupy else interface.get("stream")
    return Argument("array", name, address, ordinal, not read_only, stream)


def _classify_dlpack(array: Any) -> Argument:
    tensor = dlpack.borrow(array, cuda.current_stream)
    name = _IR_NAMES.get(tensor.dtype)
    if name is None:
        raise ArgumentTypeError(
            f"kernels have no element type for the DLPack type {tensor.dtype}",
            "convert the array to one of " + ", ".join(_IR_NAMES),
        )
    device = HOST if tensor.device is None else tensor.device
    return Argument("array", name, tensor.address, device, tensor.writable, owner=tensor.capsule)
