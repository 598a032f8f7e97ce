"""Where cases run: on NumPy arrays, or on a GPU (torch tensors where torch is, else our own)."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from tests.suite.case import Array, Case, check, guarded


class HostDevice:
    """Launches on NumPy arrays."""

    is_gpu = False

    def put(self, buffer: np.ndarray, first: int) -> tuple[Any, Any]:
        """The array as a kernel takes it, pointing to element `first`, and what holds it all."""
        return buffer[first:], buffer

    def get(self, held: Any, like: np.ndarray) -> np.ndarray:
        """The buffer after the launch."""
        return held


class TorchDevice:
    """Launches on torch tensors."""

    is_gpu = True

    def put(self, buffer: np.ndarray, first: int) -> tuple[Any, Any]:
        import torch

        kind = getattr(torch, str(buffer.dtype))
        held = torch.from_numpy(buffer.view(np.uint8).copy()).cuda().view(kind)
        return held[first:], held

    def get(self, held: Any, like: np.ndarray) -> np.ndarray:
        import torch

        return held.view(torch.uint8).cpu().numpy().view(like.dtype)


class PlainDevice:
    """Launches on the package's own GPU arrays."""

    is_gpu = True

    def put(self, buffer: np.ndarray, first: int) -> tuple[Any, Any]:
        from blocklang.runtime import device_array

        held = device_array(buffer)
        return PointerInto(held, first), held

    def get(self, held: Any, like: np.ndarray) -> np.ndarray:
        return held.to_host()


class PointerInto:
    """An array on a GPU, from one of its elements on."""

    def __init__(self, array: Any, first: int) -> None:
        self._array = array
        self.dtype = array.dtype
        interface = array.__cuda_array_interface__
        address, read_only = interface["data"]
        self.__cuda_array_interface__ = {
            **interface,
            "shape": (array.shape[0] - first,),
            "data": (address + first * array.dtype.itemsize, read_only),
        }


def gpu_device() -> TorchDevice | PlainDevice:
    """The device for tests on a GPU."""
    return TorchDevice() if importlib.util.find_spec("torch") else PlainDevice()


def run(case: Case, device: Any) -> int:
    """Run a case and compare; the number of elements that were compared with the reference."""
    launch = case.launch()
    assert launch.expected, "nothing is expected of this case"
    assert set(launch.expected) <= set(launch.arguments)
    given: dict[str, Any] = dict(launch.arguments)
    held: dict[str, tuple[Any, np.ndarray]] = {}
    for name, argument in launch.arguments.items():
        if isinstance(argument, Array):
            buffer, first = guarded(argument)
            given[name], inside = device.put(buffer, first + argument.start)
            held[name] = inside, buffer
    case.kernel[case.grid](**given, **case.constexprs, **case.options)
    compared = 0
    for name, (inside, buffer) in held.items():
        argument = launch.arguments[name]
        after = device.get(inside, buffer)
        if name in launch.expected:
            compared += check(name, argument, after, launch.expected[name], device.is_gpu)
        else:
            before, _ = guarded(argument)
            assert (before.view(np.uint8) == after.view(np.uint8)).all(), f"{name} has changed"
    return compared
