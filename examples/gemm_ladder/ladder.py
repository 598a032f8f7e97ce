"""One matrix product in eight stages, each of which does one thing that the one before does not.

    python examples/gemm_ladder/ladder.py [--device cpu|gpu] [--size 4096]

c = a @ b in bfloat16, summed in float32. Every stage is a kernel of `kernels.py` with a tile and
settings of the compiler. The program holds each to float64 for sizes that no tile divides, and for
some that all rules about alignment suit; on a GPU it then times each on square matrices.
docs/tutorials/gemm_ladder.md says what one can see.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

import blocklang
from blocklang.runtime import cuda

if __package__:
    from examples import harness
    from examples.gemm_ladder import kernels
    from examples.rounding import Rounded
else:
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import harness
    import kernels
    from rounding import Rounded

# Of m, n, k: nothing is divisible by anything, or everything by 16.
SHAPES = ((1, 1, 1), (67, 45, 33), (130, 257, 71), (144, 272, 80))


@dataclass(frozen=True)
class Stage:
    """One step of the ladder.

    `tile` are the compile-time values of `kernel`. `reader` says who reads factors for the units
    that multiply, "thread", "warp" or "warpgroup", and `part` which rows and columns of the result
    it multiplies at a time; `factor_bytes` is the size of what it reads. With `aligned` the
    compiler may use what it knows about divisibility by 16.
    """

    number: int
    title: str
    kernel: Any
    tile: Mapping[str, Any]
    num_warps: int
    reader: str
    part: tuple[int, int]
    num_stages: int = 1
    target: str = "sm_90"
    factor_bytes: int = 2
    aligned: bool = True
    tensor_cores: bool = True

    @cached_property
    def own(self) -> Any:
        """The kernel, apart from those of other stages: they are compiled for another target."""
        unaligned = () if self.aligned else ("a", "b", "c", "m", "n", "k")
        return blocklang.jit(do_not_specialize_on_alignment=unaligned)(self.kernel.__wrapped__)

    @property
    def settings(self) -> dict[str, Any]:
        """What a launch is given besides its arguments."""
        return {**self.tile, "num_warps": self.num_warps, "num_stages": self.num_stages}

    @property
    def stays(self) -> bool:
        """Whether programs walk over tiles."""
        return "GROUP" in self.tile

    def grid(self, m: int, n: int, multiprocessors: int = 0) -> tuple[int, ...]:
        """The programs: one a tile, or as many as run at a time."""
        down = blocklang.cdiv(m, self.tile["BLOCK_M"])
        across = blocklang.cdiv(n, self.tile["BLOCK_N"])
        return (min(down * across, multiprocessors or 3),) if self.stays else (across, down)

    def ready(self, a: Any, b: Any, c: Any) -> Callable[[], Any]:
        """A function that computes c = a @ b and returns the compiled kernel."""
        (m, k), n = a.shape, b.shape[1]
        on_gpu = not isinstance(a, np.ndarray)
        count = cuda.device(a.get_device()).multiprocessors if on_gpu else 0
        arguments = (a, b, c, m, n, k)
        with newest_is(self.target):
            self.own.warmup(*arguments, **self.settings)
        run = self.own[self.grid(m, n, count)]
        return lambda: run(*arguments, **self.settings)

    def compile(self) -> Any:
        """The kernel for its GPU and sizes divisible by 16, without one."""
        known = ":16" if self.aligned else ""
        signature = dict.fromkeys("abc", f"*bf16{known}") | dict.fromkeys("mnk", f"i32{known}")
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        return self.own.compile(signature, self.tile, target=self.target, **options)


@contextmanager
def newest_is(target: str) -> Iterator[None]:
    """Kernels for sm_90a are compiled for `target`; those for other GPUs as always."""
    usual = cuda.Device.target.fget

    def found(device: cuda.Device) -> str:
        return target if usual(device) == "sm_90a" else usual(device)

    with mock.patch.object(cuda.Device, "target", property(found)):
        yield


def tile(m: int, n: int, k: int, **more: Any) -> dict[str, Any]:
    """A tile of the result, and how far a step of the sum goes."""
    return {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, **more}


EXACT, TENSOR = {"TENSOR_CORES": False}, {"TENSOR_CORES": True}
STAGES = (
    Stage(
        1, "one element a thread", kernels.by_elements, {"BLOCK_M": 8, "BLOCK_N": 32}, 8,
        "thread", (1, 1), aligned=False, tensor_cores=False,
    ),
    Stage(
        2, "tiles in shared memory", kernels.by_tiles, tile(32, 32, 32, **EXACT), 32,
        "thread", (1, 1), factor_bytes=4, aligned=False, tensor_cores=False,
    ),
    Stage(
        3, "64 elements a thread", kernels.by_tiles, tile(128, 128, 16, **EXACT), 8,
        "thread", (8, 8), factor_bytes=4, aligned=False, tensor_cores=False,
    ),
    Stage(
        4, "16 bytes an access", kernels.by_tiles, tile(128, 128, 16, **EXACT), 8,
        "thread", (8, 8), factor_bytes=4, tensor_cores=False,
    ),
    Stage(
        5, "tensor cores", kernels.by_tiles, tile(128, 128, 64, **TENSOR), 8,
        "warp", (64, 32),
    ),
    Stage(
        6, "asynchronous copies", kernels.by_tiles, tile(128, 128, 64, **TENSOR), 8,
        "warp", (64, 32), num_stages=4,
    ),
    Stage(
        7, "copies and products by the hardware", kernels.by_descriptors, tile(128, 128, 64), 4,
        "warpgroup", (64, 128), target="sm_90a",
    ),
    Stage(
        8, "warps that copy, programs that stay", kernels.by_staying, tile(128, 256, 64, GROUP=8),
        8, "warpgroup", (64, 256), num_stages=3, target="sm_90a",
    ),
)  # fmt: skip


def matrices(m: int, n: int, k: int) -> tuple[Any, Any, Any]:
    """a and b of random normal numbers, and c full of NaN."""
    generator = np.random.default_rng([m, n, k])
    a, b = (generator.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, np.float32)
    a, b, c = (each.astype(ml_dtypes.bfloat16) for each in (a, b, c))
    return a, b, c


def share_of_bound(stage: Stage, shape: tuple[int, int, int], device: Any) -> float:
    """The largest error of a stage, as a share of what rounding allows."""
    a, b, c = matrices(*shape)
    placed = [device.put(each) for each in (a, b, c)]
    stage.ready(*placed)()
    found = np.array(device.get(placed[2])).astype(np.float64)
    exact = (Rounded(a) @ Rounded(b)).stored(c.dtype)
    errors = np.abs(found - exact.value) / exact.error
    errors[np.isnan(errors)] = np.inf
    return float(errors.max())


def report(stage: Stage, device: Any, timed: Any) -> bool:
    """Print what a stage does; whether it is right."""
    worst = max(share_of_bound(stage, shape, device) for shape in SHAPES)
    verdict = "correct" if worst <= 1 else "WRONG"
    line = f"{stage.number}  {stage.title:36s} {verdict}, {worst:.2f} of what rounding allows"
    if timed is not None:
        m, k, n = *timed[0].shape, timed[1].shape[1]
        seconds = device.time(stage.ready(*timed))
        line += f"; {1e3 * seconds:.3f} ms, {2e-12 * m * n * k / seconds:.1f} TFLOP/s"
    print(line, flush=True)
    return worst <= 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the result is the exit code: 1 where a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: a GPU if there is one")
    parser.add_argument(
        "--size", type=harness.positive, default=4096, help="what a GPU is timed on"
    )
    chosen = parser.parse_args(arguments)
    try:
        device = harness.find_device(chosen.device)
    except RuntimeError as problem:
        parser.error(str(problem))
    print(f"device   {device.name}")
    print("checked  " + ", ".join(" x ".join(map(str, shape)) for shape in SHAPES))
    timed = None
    if isinstance(device, harness.Gpu):
        timed = [device.put(each) for each in matrices(*3 * (chosen.size,))]
        print(f"timed    {chosen.size} x {chosen.size} x {chosen.size}")
    right = [report(stage, device, timed) for stage in STAGES]
    return int(not all(right))


if __name__ == "__main__":
    sys.exit(main())
