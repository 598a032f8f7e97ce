"""The contents of arrays that runs of a kernel change: kept, put back, set to zero.

Every run that is measured finds the same contents, and so does the launch after them. Work on
GPUs goes to the current stream of the array's library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from blocklang.errors import NotResettable
from blocklang.runtime import cuda
from blocklang.runtime.arrays import classify
from blocklang.runtime.errors import LaunchError
from blocklang.runtime.memory import DeviceArray


class Contents:
    """The arrays of one launch that are reset before each of its runs.

    Raises CompileError where what is named is not an array that can be written.
    """

    def __init__(
        self,
        kernel: str,
        arguments: Mapping[str, Any],
        reset_to_zero: Sequence[str],
        restore_value: Sequence[str],
    ) -> None:
        self._actions: list[Callable[[], object]] = []
        for option, names, action in (
            ("reset_to_zero", reset_to_zero, _zeroing),
            ("restore_value", restore_value, _restoring),
        ):
            for name in names:
                array = arguments.get(name)
                found = action(array)
                # An array that the caller leaves out needs nothing.
                if found is None and array is not None:
                    raise NotResettable(
                        option=option, name=name, kernel=kernel, found=describe(array)
                    )
                self._actions += [found] if found is not None else []

    def reset(self) -> None:
        """Put the contents back; without waiting for a GPU."""
        for action in self._actions:
            action()


def describe(value: Any) -> str:
    """What a value is, in words for errors."""
    try:
        argument = classify(value)
    except LaunchError:
        return f"a value of type {type(value).__name__}"
    if argument.kind == "array":
        return "an array" if argument.writable else "a read-only array"
    return "None" if argument.kind == "none" else f"the {argument.kind} {argument.value}"


def _zeroing(array: Any) -> Callable[[], object] | None:
    """What sets `array` to zero; None where nothing can."""
    if isinstance(array, DeviceArray):
        return lambda: cuda.call(
            "cuMemsetD8Async", array.data_ptr(), 0, array.nbytes, _stream(array)
        )
    if hasattr(array, "zero_"):
        return lambda: array.detach().zero_()
    if hasattr(array, "fill") and hasattr(array, "dtype") and _writable(array):
        return lambda: array.fill(0)
    return None


def _restoring(array: Any) -> Callable[[], object] | None:
    """What gives `array` its present contents again; None where nothing can."""
    if isinstance(array, DeviceArray):
        return _restoring_device_array(array)
    if hasattr(array, "copy_"):
        kept = array.detach().clone()
        return lambda: array.detach().copy_(kept)
    if isinstance(array, np.ndarray) or hasattr(array, "__cuda_array_interface__"):
        if not hasattr(array, "copy") or not _writable(array):
            return None
        copy = array.copy()

        def restore() -> None:
            array[...] = copy

        return restore
    return None


def _restoring_device_array(array: DeviceArray) -> Callable[[], object]:
    kept = DeviceArray(array.shape, array.dtype, array.get_device())

    def copy(to: DeviceArray, source: DeviceArray) -> None:
        with cuda.activated(array.get_device()):
            addresses = to.data_ptr(), source.data_ptr()
            cuda.call("cuMemcpyDtoDAsync", *addresses, array.nbytes, _stream(array))

    copy(kept, array)
    return lambda: copy(array, kept)


def _stream(array: DeviceArray) -> int:
    return cuda.current_stream(array.get_device())


def _writable(array: Any) -> bool:
    flags = getattr(array, "flags", None)
    return bool(getattr(flags, "writeable", True))
