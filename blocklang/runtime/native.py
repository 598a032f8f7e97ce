"""The launch fast path as one native call: LLVM IR compiled in process, called by CPython directly.

`launch(grid, stream, *arguments)` looks at each argument once, makes the key of the specialisation
as bytes, finds the compiled kernel in a dict, packs the parameters on the C stack and calls
cuLaunchKernel without the interpreter lock. It returns the kernel if it was launched, the key if
no kernel is known for it, and b"" for anything unusual: other types than the few it knows, an
argument out of range, another current context, any exception, a refused launch. It never raises
and never explains: the caller repeats an unusual launch on the general path, which does both.

Keys are finer than specialisations: dtypes, strings and other objects count by identity, so that
an entry must keep alive the objects whose addresses are in its key. Nothing here is needed for
correct launches; `available` says where it can be used.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
import sysconfig
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

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
    """How to launch one loaded kernel; `parameters` says which argument each parameter takes."""

    _fields_: ClassVar = [
        ("context", ctypes.c_void_p),
        ("function", ctypes.c_void_p),
        ("threads", ctypes.c_uint32),
        ("shared_bytes", ctypes.c_uint32),
        ("count", ctypes.c_int64),
        ("parameters", _Parameter * MAX_ARGUMENTS),
    ]


def make_record(
    context: int, function: int, threads: int, shared_bytes: int, plan: Sequence[tuple[int, int]]
) -> Record:
    """A record; `plan` has for each kernel parameter the argument's index and its conversion."""
    record = Record(context, function, threads, shared_bytes, len(plan))
    for parameter, (argument, conversion) in zip(record.parameters, plan, strict=False):
        parameter.argument, parameter.conversion = argument, conversion
    return record


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
    environment: Environment, cache: dict[bytes, tuple[Any, int, Any]], masks: Sequence[int]
) -> Callable[..., Any]:
    """A native `launch(grid, stream, *arguments)` for a kernel with one mask for each argument.

    `cache` maps keys to (kernel to return, address of its Record, objects to keep alive).
    """
    compiled = _compiled()
    assert compiled is not None
    _, method = compiled
    state = _State(ctypes.addressof(environment), id(cache), len(masks))
    state.masks[: len(masks)] = list(masks)
    # The function object keeps this tuple alive, and the tuple everything that the stub reads.
    owned = (ctypes.addressof(state), state, environment, cache)
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


@functools.cache
def _compiled() -> tuple[Any, _MethodDefinition] | None:
    """The engine that owns the machine code, and the method definition; None without llvmlite."""
    try:
        from blocklang.runtime import native_stub
    except ImportError:
        return None
    engine, address = native_stub.compile_stub(MAX_ARGUMENTS, MAX_ARRAY_TYPES)
    return engine, _MethodDefinition(b"launch", address, _METH_FASTCALL, None)
