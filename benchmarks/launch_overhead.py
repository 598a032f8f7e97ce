"""Host time of one launch: ours by each path, Triton's, and the driver's own floor.

    python -m benchmarks.launch_overhead results.json

An empty kernel of three arrays and five integers is launched again and again without waiting for
the GPU. Everything is measured in one run on one machine; each figure is the least mean of several
rounds, in microseconds. The bound is the floor: cuLaunchKernel called with parameters that were
packed before.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import numpy as np
import torch

import blocklang
from benchmarks import triton_rows
from benchmarks.record import Results, parser
from blocklang.runtime import cuda, device_array

VALUES = (16, 2, 3, 4, 5)
LAUNCHES, ROUNDS = 3000, 9


@blocklang.jit
def empty(a, b, c, n, s0, s1, s2, s3):
    """Does nothing."""


def microseconds(launch: Callable[[], object]) -> float:
    """The least mean host time of `launch` over several rounds."""
    for _ in range(100):
        launch()
    best = float("inf")
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(LAUNCHES):
            launch()
        best = min(best, (time.perf_counter() - start) / LAUNCHES)
    torch.cuda.synchronize()
    return best * 1e6


def floors(address: int) -> dict[str, Callable[[], object]]:
    """The driver's launch with everything packed before, by two ways of calling C."""
    slots = (ctypes.c_uint64 * 8)(address, address, address, *VALUES)
    pointers = (ctypes.c_void_p * 8)(*(ctypes.addressof(slots) + 8 * i for i in range(8)))
    x = torch.zeros(16, device="cuda")
    handle = empty.warmup(x, x, x, *VALUES).function.handle
    packed = ctypes.addressof(pointers)
    driver_launch = cuda.driver().cuLaunchKernel
    entry = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, *(ctypes.c_uint,) * 7, *(ctypes.c_void_p,) * 3
    )(cuda.entry_point("cuLaunchKernel"))
    keep = slots, pointers
    return {
        "floor: cuda.bindings": lambda: driver_launch(handle, 1, 1, 1, 128, 1, 1, 0, 0, packed, 0),
        "floor: ctypes": lambda: keep and entry(handle, 1, 1, 1, 128, 1, 1, 0, None, packed, None),
    }


def main() -> None:
    """Measure, print, and write JSON."""
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    results = Results(arguments.commit)
    x = torch.zeros(16, device="cuda")
    ours = device_array(np.zeros(16, np.float32))
    bound = empty[(1,)]
    # A NumPy integer in the grid is one of the things that only the general path takes.
    odd_grid = (np.int64(1),)
    launches: dict[str, Callable[[], object]] = {
        "triton": lambda: triton_rows.empty[(1,)](x, x, x, *VALUES),
        "blocklang": lambda: empty[(1,)](x, x, x, *VALUES),
        "blocklang, grid bound": lambda: bound(x, x, x, *VALUES),
        "blocklang, grid function": lambda: empty[lambda meta: (1,)](x, x, x, *VALUES),
        "blocklang, DeviceArray": lambda: empty[(1,)](ours, ours, ours, *VALUES),
        "blocklang, general path": lambda: empty[odd_grid](x, x, x, *VALUES),
        **floors(x.data_ptr()),
        "torch add_": lambda: x.add_(1),
    }
    for name, launch in launches.items():
        results.add("launch", "3 arrays, 5 integers", name, microseconds=microseconds(launch))
    results.write(arguments.output)


if __name__ == "__main__":
    main()
