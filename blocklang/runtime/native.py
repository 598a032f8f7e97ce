"""The launch fast path as one native call: LLVM IR compiled in process, called by CPython directly.

`launch(grid, stream, *arguments)` looks at each argument once, makes the key of the specialisation
as bytes, finds the compiled kernel in a dict, packs the parameters on the C stack and calls
cuLaunchKernel without the interpreter lock. It returns the kernel if it was launched, the key if
no kernel is known for it, and b"" for anything unusual: other types than the few it knows, an
argument out of range, another current context, any exception, a refused launch. It raises nothing
but interrupts (KeyboardInterrupt and the like), and never explains: the caller repeats an unusual
launch on the general path, which does both.

Keys are finer than specialisations: dtypes, strings and other objects count by identity, so that
an entry must keep alive the objects whose addresses are in its key. A kernel with tensor maps has
two kinds of entries: one that names the arguments that its maps depend on, and for each choice of
their values one with these maps, under the key with the values behind it. Nothing here is needed
for correct launches; `available` says where it can be used.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import sysconfig
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from blocklang.runtime.once import Once
from blocklang.runtime.submit import GpuKernel

MAX_ARGUMENTS = 128
MAX_ARRAY_TYPES = 4

# Facts about one argument are a byte: its kind in the low bits, and these.
_FITS_32_BITS, _DIVISIBLE_BY_16, _EQUAL_TO_1, _DIVISIBLE_BY_8, _CONSTEXPR = 8, 16, 32, 64, 128
_DIVISIBLE = _DIVISIBLE_BY_8 | _DIVISIBLE_BY_16
_ALL_FACTS = 127

# Bits of a parameter's conversion, from a value's 8 bytes to what the kernel expects.
AS_IT_IS, DOUBLE_TO_FLOAT = 0, 1


class Environment(ctypes.Structure):
    """What all kernels share: driver entry points, names and types; `launch` reads it each time.

    `stream_getter` (a callable from a GPU's number to a stream, or 0), the names and
    `array_types` (types with data_ptr, get_device and dtype; 0 ends them) are addresses of Python
    objects that the owner of the structure keeps alive.
    """

    _fields_: ClassVar = [
        ("launch_kernel", ctypes.c_void_p),
        ("get_context", ctypes.c_void_p),
        ("stream_getter", ctypes.c_void_p),
        ("get_device", ctypes.c_void_p),
        ("data_ptr", ctypes.c_void_p),
        ("dtype", ctypes.c_void_p),
        ("array_types", ctypes.c_void_p * (MAX_ARRAY_TYPES + 1)),
    ]


class _State(ctypes.Structure):
    _fields_: ClassVar = [
        ("environment", ctypes.c_void_p),
        ("cache", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("masks", ctypes.c_uint8 * MAX_ARGUMENTS),
    ]


class _Parameter(ctypes.Structure):
    _fields_: ClassVar = [("argument", ctypes.c_int32), ("conversion", ctypes.c_int32)]


class Record(ctypes.Structure):
    """How to launch one loaded kernel; `parameters` says which argument each parameter takes.

    `maps` is the address of those of the `map_count` tensor maps, which follow the parameters. A
    record with `guards` launches nothing: its first `guards` parameters name the arguments whose
    values make the longer key, and the record under that is the one to use.
    """

    _fields_: ClassVar = [
        ("context", ctypes.c_void_p),
        ("function", ctypes.c_void_p),
        ("threads", ctypes.c_uint32),
        ("shared_bytes", ctypes.c_uint32),
        ("num_ctas", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("guards", ctypes.c_int64),
        ("map_count", ctypes.c_int64),
        ("maps", ctypes.c_void_p),
        ("parameters", _Parameter * MAX_ARGUMENTS),
    ]


Entry = tuple[Any, int, Any]
"""What a cache holds: the kernel to return, the address of a Record, objects to keep alive."""


def make_entry(
    kernel: GpuKernel, plan: Sequence[tuple[int, int]], maps: Sequence[Any], kept: Any
) -> Entry:
    """The entry that launches `kernel`.

    `plan` has for each of its parameters the argument's index and its conversion, and `maps` are
    the ctypes objects that follow; together they are at most MAX_ARGUMENTS.
    """
    function = kernel.function
    record = Record(
        function.context, function.handle, kernel.threads, function.shared_bytes, kernel.num_ctas
    )
    record.count, record.map_count = len(plan), len(maps)
    for parameter, (argument, conversion) in zip(record.parameters, plan, strict=False):
        parameter.argument, parameter.conversion = argument, conversion
    addresses = (ctypes.c_void_p * len(maps))(*map(ctypes.addressof, maps))
    record.maps = ctypes.addressof(addresses)
    # With the function goes the machine code, whatever becomes of the kernel.
    return kernel, ctypes.addressof(record), (record, function, addresses, maps, kept)


def make_guard(kernel: GpuKernel, arguments: Sequence[int], kept: Any) -> Entry:
    """The entry that says on which arguments, by index, the maps of `kernel` depend."""
    record = Record(guards=len(arguments))
    for parameter, argument in zip(record.parameters, arguments, strict=False):
        parameter.argument = argument
    return kernel, ctypes.addressof(record), (record, kept)


def longer_key(key: bytes, values: Sequence[int]) -> bytes:
    """The key of a launch whose guarded arguments have these values."""
    return key + b"".join((value % 2**64).to_bytes(8, "little") for value in values)


def argument_mask(*, constexpr: bool, specialize: bool, specialize_alignment: bool) -> int:
    """Which facts about an argument count for the key."""
    mask = _ALL_FACTS | (_CONSTEXPR if constexpr else 0)
    if not specialize:
        mask &= ~(_DIVISIBLE | _EQUAL_TO_1)
    if not specialize_alignment:
        mask &= ~_DIVISIBLE
    return mask


def available() -> bool:
    """Whether the native path works here: CPython with its lock, 64 bits, and llvmlite.

    The stub reads an object's type at the place that the stable ABI of those builds fixes.
    """
    return (
        platform.python_implementation() == "CPython"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and sys.maxsize == 2**63 - 1
        and sys.byteorder == "little"
        and object.__basicsize__ == 16
        and _compiled() is not None
    )


def make_launch(
    environment: Environment, cache: dict[bytes, Entry], masks: Sequence[int], kept: Any = None
) -> Callable[..., Any]:
    """A native `launch(grid, stream, *arguments)` for a kernel with one mask for each argument.

    It reads `cache` at every launch; entries may come and go at any time. `kept` owns what
    `environment` has the addresses of.
    """
    compiled = _compiled()
    assert compiled is not None
    _, method = compiled
    state = _State(ctypes.addressof(environment), id(cache), len(masks))
    state.masks[: len(masks)] = list(masks)
    # The function object keeps this tuple alive, and the tuple everything that the stub reads, as
    # well as the stub itself.
    owned = (ctypes.addressof(state), state, environment, cache, kept, compiled)
    new_function = ctypes.pythonapi.PyCFunction_NewEx
    new_function.restype = ctypes.py_object
    new_function.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    function: Callable[..., Any] = new_function(ctypes.addressof(method), owned, None)
    return function


class _MethodDefinition(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


_METH_FASTCALL = 0x80


@Once
def _compiled() -> tuple[Any, _MethodDefinition] | None:
    """The engine that owns the machine code, and the method definition; None without llvmlite."""
    try:
        from blocklang.runtime import native_stub
    except ImportError:
        return None
    engine, address = native_stub.compile_stub(MAX_ARGUMENTS, MAX_ARRAY_TYPES)
    return engine, _MethodDefinition(b"launch", address, _METH_FASTCALL, None)
