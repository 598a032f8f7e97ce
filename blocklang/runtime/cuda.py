"""The CUDA driver. The one module that imports cuda-python, at the first call that needs it.

Contexts: where a context is current in the calling thread it is used, otherwise the primary
context of the device, which is the one that torch, CuPy and the CUDA runtime share. Handles are
plain integers outside this module. Every status that is not success becomes a `LaunchError`.
This module launches nothing: that is `launcher.py`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blocklang.runtime.errors import (
    CudaError,
    LaunchError,
    NoDeviceError,
    NoDriverError,
    StreamError,
)

# What the driver's own sentences do not say: what the author of a kernel can do.
_HELP = {
    "CUDA_ERROR_OUT_OF_MEMORY": "free GPU memory, or work on smaller arrays",
    "CUDA_ERROR_ILLEGAL_ADDRESS": (
        "a kernel accessed memory outside its arrays; check masks and strides, and restart the "
        "process, whose GPU context is lost"
    ),
    "CUDA_ERROR_MISALIGNED_ADDRESS": (
        "a pointer was not aligned as promised; check multiple_of and other hints, and restart "
        "the process, whose GPU context is lost"
    ),
    "CUDA_ERROR_ASSERT": "a device_assert failed; its text is on the standard output",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": (
        "the kernel needs more registers for each block than there are; use fewer warps"
    ),
    "CUDA_ERROR_LAUNCH_FAILED": "restart the process: its GPU context is lost",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "the kernel ran too long for a GPU that drives a display",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "compile for the target of this GPU",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "install a newer driver, or ptxas (nvidia-cuda-nvcc)",
    "CUDA_ERROR_INVALID_PTX": "install ptxas (nvidia-cuda-nvcc) for a precise message",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine after the driver's update",
    "CUDA_ERROR_STUB_LIBRARY": "a stub of libcuda comes first on the library path; remove it",
}


@functools.cache
def driver() -> Any:
    """Return `cuda.bindings.driver`, initialised; NoDriverError or NoDeviceError says why not."""
    try:
        from cuda.bindings import driver as bindings
    except ImportError as error:
        raise NoDriverError(
            f"running on a GPU needs the package cuda-python ({error})",
            "pip install cuda-python; NumPy arrays run on the CPU without it",
        ) from None
    # The bindings load the driver's library at the first call, and say in several exception
    # types that there is none.
    try:
        (status,) = bindings.cuInit(0)
    except Exception as error:
        raise NoDriverError(
            "this machine has no NVIDIA driver (libcuda was not found)",
            "install the driver; NumPy arrays run on the CPU without it",
        ) from error
    if status.name in ("CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"):
        raise NoDeviceError(
            "the NVIDIA driver finds no GPU", "check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    if status != 0:
        raise NoDriverError(
            f"the NVIDIA driver cannot start ({status.name}, {int(status)})",
            _HELP.get(status.name, "check nvidia-smi"),
        )
    return bindings


@functools.cache
def available() -> bool:
    """Whether a kernel could run on a GPU of this machine; looked for once."""
    try:
        return device_count() > 0
    except LaunchError:
        return False


def call(function: str, *arguments: Any) -> Any:
    """Call a driver function by name: its result (None, one value, or a tuple), or CudaError."""
    status, *results = getattr(driver(), function)(*arguments)
    if status != 0:
        raise cuda_error(function, int(status))
    if len(results) < 2:
        return results[0] if results else None
    return tuple(results)


def cuda_error(doing: str, number: int) -> CudaError:
    """The error for a status that is not success; `doing` is what was being done."""
    bindings = driver()
    try:
        status = bindings.CUresult(number)
    except ValueError:
        return CudaError(doing, "CUDA_ERROR", number, "an error unknown to this cuda-python")
    _, sentence = bindings.cuGetErrorString(status)
    meaning = sentence.decode() if sentence else "an unknown error"
    return CudaError(doing, status.name, number, meaning, _HELP.get(status.name, ""))


def entry_point(function: str) -> int:
    """The address of a driver function, for native callers."""
    flags = driver().CUdriverProcAddress_flags.CU_GET_PROC_ADDRESS_LEGACY_STREAM
    address, _ = call("cuGetProcAddress", function.encode(), 12000, flags)
    if not address:
        raise NoDriverError(f"the NVIDIA driver lacks {function}", "install a newer driver")
    return int(address)


@dataclass(frozen=True)
class Device:
    """The facts about one GPU that the compiler, the launcher and the tuner ask for."""

    ordinal: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    warp_size: int
    threads_per_block: int
    threads_per_multiprocessor: int
    registers_per_block: int
    registers_per_multiprocessor: int
    shared_bytes_per_block: int
    shared_bytes_per_multiprocessor: int
    l2_bytes: int
    memory_bytes: int
    clock_khz: int
    driver_version: int

    @property
    def target(self) -> str:
        """The target's name: `sm_80`, or `sm_90a` where features are tied to the architecture."""
        major, minor = self.capability
        return f"sm_{major}{minor}" + ("a" if major >= 9 else "")


_ATTRIBUTES = {
    "multiprocessors": "MULTIPROCESSOR_COUNT",
    "warp_size": "WARP_SIZE",
    "threads_per_block": "MAX_THREADS_PER_BLOCK",
    "threads_per_multiprocessor": "MAX_THREADS_PER_MULTIPROCESSOR",
    "registers_per_block": "MAX_REGISTERS_PER_BLOCK",
    "registers_per_multiprocessor": "MAX_REGISTERS_PER_MULTIPROCESSOR",
    "shared_bytes_per_block": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    "shared_bytes_per_multiprocessor": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
    "l2_bytes": "L2_CACHE_SIZE",
    "clock_khz": "CLOCK_RATE",
}


def device_count() -> int:
    """How many GPUs the process may use."""
    return int(call("cuDeviceGetCount"))


@functools.cache
def device(ordinal: int) -> Device:
    """The facts about GPU number `ordinal`; NoDeviceError where there is no such GPU."""
    count = device_count()
    if not 0 <= ordinal < count:
        raise NoDeviceError(
            f"there is no GPU {ordinal}: the process sees {count}", "check CUDA_VISIBLE_DEVICES"
        )
    handle = call("cuDeviceGet", ordinal)

    def attribute(name: str) -> int:
        key = getattr(driver().CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call("cuDeviceGetAttribute", key, handle))

    return Device(
        ordinal=ordinal,
        name=call("cuDeviceGetName", 256, handle).split(b"\0")[0].decode(),
        capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
        memory_bytes=int(call("cuDeviceTotalMem", handle)),
        driver_version=int(call("cuDriverGetVersion")),
        **{field: attribute(name) for field, name in _ATTRIBUTES.items()},
    )


@functools.cache
def primary_context(ordinal: int) -> int:
    """The primary context of a GPU; it is retained once and kept until the process ends."""
    device(ordinal)
    return int(call("cuDevicePrimaryCtxRetain", call("cuDeviceGet", ordinal)))


def current_context() -> int:
    """The context that is current in the calling thread; 0 for none."""
    return int(call("cuCtxGetCurrent"))


def current_device() -> int:
    """The GPU of the current context; GPU 0 where the thread has none."""
    return int(call("cuCtxGetDevice")) if current_context() else 0


@contextmanager
def activated(ordinal: int) -> Iterator[int]:
    """Run a `with` body in a context of GPU `ordinal`, and yield that context.

    A current context of that GPU is used as it is. A thread without any gets the primary context
    and keeps it, as with the CUDA runtime; a context of another GPU comes back afterwards.
    """
    current = current_context()
    if current and int(call("cuCtxGetDevice")) == ordinal:
        yield current
        return
    context = primary_context(ordinal)
    if not current:
        call("cuCtxSetCurrent", context)
        yield context
        return
    with pushed(context):
        yield context


@contextmanager
def pushed(context: int) -> Iterator[None]:
    """Run a `with` body in `context`, and restore the thread's context afterwards."""
    call("cuCtxPushCurrent", context)
    try:
        yield
    finally:
        call("cuCtxPopCurrent")


def pointer_device(address: int) -> int:
    """The GPU that owns a device pointer."""
    key = driver().CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(call("cuPointerGetAttribute", key, address))


def current_stream(ordinal: int, arrays: Sequence[Any] = ()) -> int:
    """The stream that the array library of `arrays` works on now, on GPU `ordinal`.

    That is CuPy's where CuPy's arrays are among them; else torch's, else CuPy's, whichever is
    loaded already, else the default stream. No library is imported.
    """
    cupy = sys.modules.get("cupy")
    of_torch = torch_stream_getter()
    if cupy is not None and (
        of_torch is None or any(isinstance(array, cupy.ndarray) for array in arrays)
    ):
        return int(cupy.cuda.get_current_stream().ptr)
    return int(of_torch(ordinal)) if of_torch is not None else 0


def torch_stream_getter() -> Any:
    """The function from a GPU's number to torch's current raw stream, or None without torch.

    `torch.cuda.current_stream()` builds an object at sixty times the cost.
    """
    extension = getattr(sys.modules.get("torch"), "_C", None)
    return getattr(extension, "_cuda_getCurrentRawStream", None)


def stream_handle(stream: Any) -> int:
    """The handle of a stream given by a user: an integer, or a stream of torch, CuPy or others."""
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        return int((protocol() if callable(protocol) else protocol)[1])
    for attribute in ("cuda_stream", "ptr", "handle"):
        handle = getattr(stream, attribute, None)
        if handle is not None:
            return int(handle)
    raise StreamError(
        f"stream is {stream!r}, which is not a CUDA stream",
        "pass a torch or CuPy stream, an object with __cuda_stream__, or a handle as an integer",
    )


def synchronize(stream: int | None = None) -> None:
    """Wait for a stream, or for everything in the current context."""
    if stream is None:
        call("cuCtxSynchronize")
    else:
        call("cuStreamSynchronize", stream)
