"""Running compiled kernels: the GPU driver, the CPU's threads, arguments, and the launch itself.

The modules here know nothing of the front ends or the IR. Importing this package loads none of
cuda-python, torch, CuPy or llvmlite; each is looked for when a launch needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocklang.runtime.memory import DeviceArray as DeviceArray
    from blocklang.runtime.memory import device_array as device_array
    from blocklang.runtime.memory import empty as empty

__all__ = ["DeviceArray", "device_array", "empty"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("blocklang.runtime.memory"), name)
