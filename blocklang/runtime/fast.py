"""When and how one kernel's launches take the native path of `native.py`.

A kernel's first launch is general, and so are all where the native path cannot work. The second
makes the native function, and every launch that it does not know yet teaches it. Wrong or unusual
launches never reach the native cache, so that each is explained anew.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from blocklang.runtime import cuda, native
from blocklang.runtime.arrays import Argument
from blocklang.runtime.memory import DeviceArray
from blocklang.runtime.once import Once
from blocklang.runtime.specialise import Parameter
from blocklang.runtime.submit import GpuKernel

# Keys are finer than specialisations: a string made anew for each launch would add one each time.
_MOST_ENTRIES = 4096

# Declared types whose range the facts of the native key can tell.
_NATIVE_DTYPES = {"i1", "i32", "i64", "f32", "f64"}

_CONVERSIONS = {
    ("integer", "i32"): native.AS_IT_IS,
    ("integer", "i64"): native.AS_IT_IS,
    ("boolean", "i1"): native.AS_IT_IS,
    ("float", "f32"): native.DOUBLE_TO_FLOAT,
    ("float", "f64"): native.AS_IT_IS,
    ("array", "ptr"): native.AS_IT_IS,
}


class FastPath:
    """The native function of one kernel and its cache.

    `launch(grid, stream, *arguments, *options)` returns the kernel that it launched, or the bytes
    to give to `learn` after a general launch.
    """

    def __init__(self, parameters: Sequence[Parameter], options: int) -> None:
        self.launch: Callable[..., Any] = _nothing_known
        self._parameters = parameters
        self._cache: dict[bytes, native.Entry] = {}
        self._launches = 0
        count = len(parameters) + options
        self._possible = count <= native.MAX_ARGUMENTS and all(
            p.constexpr or p.dtype is None or p.dtype in _NATIVE_DTYPES or p.dtype[0] == "*"
            for p in parameters
        )
        self._masks = [
            native.argument_mask(
                constexpr=p.constexpr,
                specialize=p.specialize,
                specialize_alignment=p.specialize_alignment,
            )
            for p in parameters
        ]
        option = native.argument_mask(constexpr=True, specialize=True, specialize_alignment=True)
        self._masks += [option] * options

    def learn(
        self,
        key: bytes,
        kernel: GpuKernel,
        arguments: Sequence[Argument | None],
        values: Sequence[Any],
        maps: Sequence[Any],
    ) -> None:
        """Take note of a general launch on a GPU that went well; `maps` are its tensor maps."""
        if not self._possible:
            return
        if key:
            self._remember(key, kernel, arguments, values, maps)
            return
        self._launches += 1
        if self._launches < 2:
            return
        environment = _environment()
        if environment is None:
            self._possible = False
            return
        environment.refresh()
        if self.launch is _nothing_known:
            self.launch = native.make_launch(
                environment.fields, self._cache, self._masks, environment
            )

    def _remember(
        self,
        key: bytes,
        kernel: GpuKernel,
        arguments: Sequence[Argument | None],
        values: Sequence[Any],
        maps: Sequence[Any],
    ) -> None:
        plan, numbers = [], []
        for index, dtype in kernel.parameters:
            argument = arguments[index]
            conversion = _CONVERSIONS.get((argument.kind, dtype)) if argument is not None else None
            if argument is None or conversion is None:
                return
            plan.append((index, conversion))
            numbers.append(argument.value)
        if len(plan) + len(maps) > native.MAX_ARGUMENTS:
            return
        # The addresses of dtypes and of compile-time values are part of the key.
        kept: list[Any] = list(values[len(arguments) :])
        for value, argument in zip(values, arguments, strict=False):
            if argument is None:
                kept.append(value)
            elif argument.kind == "array":
                kept.append(value.dtype)
        # A kernel with maps adds two at once.
        if len(self._cache) > _MOST_ENTRIES - 2:
            self._cache.clear()
        guards = kernel.tensor_maps.used if kernel.tensor_maps else ()
        if guards:
            if key not in self._cache:
                guarded = [plan[index][0] for index in guards]
                self._cache[key] = native.make_guard(kernel, guarded, kept)
            key = native.longer_key(key, [numbers[index] for index in guards])
        self._cache[key] = native.make_entry(kernel, plan, maps, kept)


def _nothing_known(*_: Any) -> bytes:
    return b""


class _Environment:
    """The fields that `native.launch` reads, and the objects whose addresses are in them."""

    def __init__(self) -> None:
        names = [sys.intern(name) for name in ("get_device", "data_ptr", "dtype")]
        self.fields = native.Environment(
            cuda.entry_point("cuLaunchKernel"), cuda.entry_point("cuCtxGetCurrent"), 0
        )
        self.fields.get_device, self.fields.data_ptr, self.fields.dtype = map(id, names)
        self._names = names
        self._seen: list[Any] = []
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> None:
        """Look again at which array libraries are loaded, for their types and streams."""
        # What was found before a library was loaded must not replace what was found after.
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        types: list[type] = [DeviceArray]
        torch: Any = sys.modules.get("torch")
        if hasattr(torch, "Tensor") and hasattr(torch, "nn"):
            types += [torch.Tensor, torch.nn.Parameter]
        getter = cuda.torch_stream_getter()
        if getter is None and "cupy" in sys.modules:
            getter = cuda.current_stream
        if self._seen and self._seen[-1] == (types, getter):
            return
        # What has been read once stays alive: another thread may be in a launch.
        self._seen.append((types, getter))
        # The stream first, since a launch of the new types must find it.
        self.fields.stream_getter = id(getter) if getter is not None else None
        for position, kind in enumerate(types):
            self.fields.array_types[position] = id(kind)


@Once
def _environment() -> _Environment | None:
    return _Environment() if native.available() else None
