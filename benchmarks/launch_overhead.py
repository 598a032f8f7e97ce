"""Host time of one launch: ours by each path, Triton's, and the driver's own floor.

An empty kernel of three arrays and five integers is launched again and again without waiting for
the GPU. Everything is measured in one run on one machine; each figure is the least mean of several
rounds, in microseconds. The kernel is written in PTX: this measures the launch path alone.

    python benchmarks/launch_overhead.py results.json

Needs a GPU and torch; Triton is measured where it is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blocklang.runtime import cuda, device_array, module
from blocklang.runtime.launcher import Launcher
from blocklang.runtime.specialise import Parameter, Specialisation

EMPTY = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry empty(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n, .param .u32 s0,
                      .param .u32 s1, .param .u32 s2, .param .u32 s3) { ret; }
"""
ARRAYS = ("a", "b", "c")
INTEGERS = ("n", "s0", "s1", "s2", "s3")
VALUES = (16, 2, 3, 4, 5)


@dataclass
class EmptyKernel:
    """The empty kernel, loaded; all eight arguments are passed."""

    function: module.Function
    threads: int = 128
    parameters: list[tuple[int, str]] = field(
        default_factory=lambda: [(i, "ptr" if i < 3 else "i32") for i in range(8)]
    )
    written: frozenset[int] = frozenset()

    def launch_host(self, grid: tuple[int, int, int], slots: int) -> None:
        """Not for the CPU."""
        raise NotImplementedError


def microseconds(launch: Callable[[], object], launches: int, rounds: int) -> float:
    """The least mean host time of `launch` over `rounds` rounds of `launches` calls."""
    for _ in range(100):
        launch()
    best = float("inf")
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(launches):
            launch()
        best = min(best, (time.perf_counter() - start) / launches)
    torch.cuda.synchronize()
    return best * 1e6


def our_launcher() -> Launcher:
    """A launcher of the empty kernel as the decorator would make it."""

    def load(specialisation: Specialisation) -> EmptyKernel:
        return EmptyKernel(module.load(EMPTY, "empty", device=specialisation.device))

    parameters = [Parameter(name) for name in ARRAYS + INTEGERS]
    options = {"num_warps": 4, "num_stages": 3}
    return Launcher("empty", [*parameters, Parameter("BLOCK", constexpr=True)], options, load)


def launches() -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    x = torch.zeros(16, device="cuda")
    launcher = our_launcher()
    found: dict[str, Callable[[], object]] = {
        "blocklang, kernel[grid](...)": lambda: launcher[(1,)](x, x, x, *VALUES, BLOCK=64),
    }
    bound = launcher[(1,)]
    found["blocklang, grid bound before"] = lambda: bound(x, x, x, *VALUES, BLOCK=64)
    found["blocklang, grid is a function"] = lambda: launcher[lambda meta: (1,)](
        x, x, x, *VALUES, BLOCK=64
    )
    ours = device_array(torch.zeros(16).numpy())
    found["blocklang, DeviceArray"] = lambda: launcher[(1,)](ours, ours, ours, *VALUES, BLOCK=64)
    # A numpy integer in the grid is one of the things that only the general path takes.
    grid = (np.int64(1),)
    found["blocklang, general path"] = lambda: launcher[grid](x, x, x, *VALUES, BLOCK=64)

    slots = (ctypes.c_uint64 * 8)(x.data_ptr(), x.data_ptr(), x.data_ptr(), *VALUES)
    pointers = (ctypes.c_void_p * 8)(*(ctypes.addressof(slots) + 8 * i for i in range(8)))
    handle = module.load(EMPTY, "empty", device=0)
    packed = ctypes.addressof(pointers)
    driver_launch = cuda.driver().cuLaunchKernel
    found["floor: cuda.bindings, parameters packed before"] = lambda: driver_launch(
        handle.handle, 1, 1, 1, 128, 1, 1, 0, 0, packed, 0
    )
    entry = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, *(ctypes.c_uint,) * 7, *(ctypes.c_void_p,) * 3
    )(cuda.entry_point("cuLaunchKernel"))
    found["floor: ctypes, parameters packed before"] = lambda: entry(
        handle.handle, 1, 1, 1, 128, 1, 1, 0, None, packed, None
    )
    found["torch, x.add_(1)"] = lambda: x.add_(1)
    triton_launch = triton_empty_kernel()
    if triton_launch is not None:
        found["triton, kernel[grid](...)"] = lambda: triton_launch[(1,)](x, x, x, *VALUES, BLOCK=64)
    return found


def triton_empty_kernel() -> Any:
    """The same kernel in Triton, or None without Triton."""
    try:
        import triton
    except ImportError:
        return None

    @triton.jit
    def empty(a, b, c, n, s0, s1, s2, s3, BLOCK: triton.language.constexpr):
        pass

    return empty


def versions() -> dict[str, str]:
    """Versions of everything that takes part, where installed."""
    found = {"python": platform.python_version()}
    for name in ("blocklang", "cuda-python", "llvmlite", "torch", "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of this checkout, or None outside of one."""
    folder = Path(__file__).parent
    run = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return run.stdout.strip() or None


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--launches", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.cuda.init()
    results = {
        name: microseconds(launch, arguments.launches, arguments.rounds)
        for name, launch in launches().items()
    }
    facts = cuda.device(0)
    report = {
        "device": facts.name,
        "driver": facts.driver_version,
        "processor": platform.processor() or platform.machine(),
        "versions": versions(),
        "commit": commit(),
        "unit": "microseconds of host time for one launch",
        "results": results,
    }
    for name, value in results.items():
        print(f"{value:8.2f}  {name}")
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
