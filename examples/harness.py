"""What the programs in this folder share: their arguments, the device, checking, timing, report.

An example is an object with

    title          what it computes
    inputs(x)      the arrays that go in, by name, made from the matrix x
    results(...)   the arrays that come out, and workspaces, as they are before, by name; takes
                   the inputs
    run(...)       launches kernels, on arrays of any device; takes inputs and results,
                   returns the launched kernels
    formula(...)   the same in NumPy, as a dict of results; takes the inputs
    operations(..) optional: how many operations that takes; takes the inputs

and a program ends with `harness.main(examples, rows, columns)`. Each example is run once on
results full of NaN and checked against its formula in float64 (see `rounding.py`), then timed, as
is the formula in NumPy and a copy of as many bytes, which is the most that memory allows.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

if __package__:
    from examples.rounding import Rounded
else:
    from rounding import Rounded

Arrays = Mapping[str, Any]
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


class Example(Protocol):
    """What `main` runs; the module's docstring says what each part is."""

    title: str

    def inputs(self, x: Any) -> Arrays: ...
    def results(self, **inputs: Any) -> Arrays: ...
    def run(self, **arrays: Any) -> Sequence[Any]: ...
    def formula(self, **inputs: Any) -> Arrays: ...


class Host:
    """The CPU, through NumPy arrays."""

    def __init__(self) -> None:
        from blocklang.runtime.cpu import thread_count

        self.name = f"CPU, {processor()}, {thread_count()} threads"

    def put(self, array: Any) -> Any:
        """The array where kernels of this device can reach it."""
        return array

    def get(self, array: Any) -> Any:
        """A NumPy array of what `put` returned."""
        return array

    def time(self, function: Callable[[], object]) -> float:
        """Seconds that `function` takes: the least of several runs."""
        return least_seconds(function)

    def copy(self, size: int) -> Callable[[], object]:
        """A function that reads `size` / 2 bytes and writes as many."""
        source, target = np.zeros(size // 2, np.uint8), np.ones(size // 2, np.uint8)
        return lambda: np.copyto(target, source)


class Gpu:
    """A GPU, through torch where that is installed, else through blocklang's own arrays."""

    def __init__(self) -> None:
        from blocklang.runtime import cuda, device_array, timing

        self.name = f"GPU, {cuda.device(cuda.current_device()).name}"
        self._cuda, self._device_array, self._timing = cuda, device_array, timing
        try:
            import torch
        except ImportError:
            torch = None  # type: ignore[assignment]
        self._torch = torch if torch is not None and torch.cuda.is_available() else None
        self.name += ", torch tensors" if self._torch else ", blocklang's arrays"

    def put(self, array: Any) -> Any:
        """A copy of the array on the GPU."""
        if self._torch is None:
            return self._device_array(array)
        if array.dtype.name in ("bfloat16", "float8_e4m3fn"):  # not in torch.from_numpy
            bits = self._torch.from_numpy(array.view(f"i{array.itemsize}"))
            return bits.cuda().view(getattr(self._torch, array.dtype.name))
        return self._torch.from_numpy(array).cuda()

    def get(self, array: Any) -> Any:
        """A copy in host memory."""
        if self._torch is None:
            return array.to_host()
        if array.dtype == self._torch.bfloat16:
            return array.view(self._torch.int16).cpu().numpy().view(ml_dtypes.bfloat16)
        return array.cpu().numpy()

    def time(self, function: Callable[[], object]) -> float:
        """Seconds on the GPU: the median of several runs."""
        function()
        return statistics.median(self._timing.time_runs(function, 50)) / 1e3

    def copy(self, size: int) -> Callable[[], object]:
        """A function that reads `size` / 2 bytes and writes as many."""
        source, target = (self._device_array(np.zeros(size // 2, np.uint8)) for _ in range(2))
        stream = self._cuda.current_stream(source.get_device())
        addresses = target.data_ptr(), source.data_ptr()
        return lambda: (
            self._cuda.call("cuMemcpyDtoDAsync", *addresses, size // 2, stream)
            or (
                source,
                target,
            )
        )


def main(
    examples: Sequence[Example], rows: int, columns: int, arguments: Sequence[str] | None = None
) -> int:
    """Run the examples as the command line says; `rows` and `columns` are the defaults. The result
    is the exit code: 1 where a result is wrong.
    """
    parser = argparse.ArgumentParser(description=examples[0].title)
    parser.add_argument("--rows", type=positive, default=rows)
    parser.add_argument("--columns", type=positive, default=columns)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: a GPU if there is one")
    parser.add_argument("--input", type=Path, help="a matrix to work on, as .npy file")
    chosen = parser.parse_args(arguments)
    try:
        device = find_device(chosen.device)
        matrix, origin = read_matrix(chosen)
    except (OSError, ValueError, RuntimeError) as problem:
        parser.error(str(problem))
    print(f"device   {device.name}")
    size = " x ".join(map(str, matrix.shape))
    print(f"input    {size} {matrix.dtype}, {origin}")
    return max(report(example, matrix, device) for example in examples)


def report(example: Example, matrix: Any, device: Any) -> int:
    """Run, check and time one example and print what came out; 1 where that is wrong, else 0."""
    print(f"\n{example.title}")
    inputs = example.inputs(matrix)
    results = example.results(**inputs)
    placed = {name: device.put(array) for name, array in {**inputs, **results}.items()}

    start = time.perf_counter()
    kernels = example.run(**placed)
    found = {name: np.array(device.get(placed[name])) for name in results}
    first = time.perf_counter() - start
    print(f"kernels  {', '.join(kernel.name for kernel in kernels)}; first run {first:.2f} s")

    wrong = 0
    judged = check(example, inputs, found)
    for name, (error, share) in judged.items():
        verdict = "correct" if share <= 1 else "WRONG"
        wrong |= share > 1
        print(
            f"error    {name}: {error:.2g} at most, {share:.2g} of what rounding allows: {verdict}"
        )

    moved = sum(array.nbytes for array in inputs.values())
    moved += sum(results[name].nbytes for name in judged)
    seconds, copied = (device.time(f) for f in (lambda: example.run(**placed), device.copy(moved)))
    # In float32 always: NumPy would be slower and less exact in the narrow dtypes.
    wide = {name: array.astype(np.float32) for name, array in inputs.items()}
    by_numpy = least_seconds(lambda: example.formula(**wide))
    print(
        f"time     {1e3 * seconds:.3f} ms, {rate(moved, seconds)}{speed(example, inputs, seconds)}"
    )
    print(f"copy     {1e3 * copied:.3f} ms, {rate(moved, copied)}: the bound that memory sets")
    print(f"NumPy    {1e3 * by_numpy:.3f} ms on the CPU, {by_numpy / seconds:.1f} times as long")
    return int(wrong)


def check(example: Example, inputs: Arrays, found: Arrays) -> dict[str, tuple[float, float]]:
    """For each result of the formula the largest error, and the largest share of the bound."""
    exact = example.formula(**{name: Rounded(array) for name, array in inputs.items()})
    judged = {}
    for name, reference in exact.items():
        array = found[name]
        expected = reference.stored(array.dtype)
        errors = np.abs(array.astype(np.float64) - expected.value)
        # What is not a number fails every comparison, and must fail the check.
        errors[np.isnan(errors)] = np.inf
        judged[name] = float(errors.max()), float((errors / expected.error).max())
    return judged


def find_device(wanted: str | None) -> Any:
    """The device to run on. Raises a LaunchError where a GPU is wanted and cannot be used."""
    from blocklang.runtime import cuda

    if wanted == "gpu":
        cuda.device_count()  # raises with advice
        return Gpu()
    return Gpu() if wanted is None and cuda.available() else Host()


def read_matrix(chosen: argparse.Namespace) -> tuple[Any, str]:
    """The matrix to work on, and where it is from."""
    dtype = DTYPES[chosen.dtype]
    if chosen.input is None:
        generator = np.random.default_rng(0)
        made = generator.standard_normal((chosen.rows, chosen.columns), np.float32)
        return made.astype(dtype), "random normal numbers"
    read = np.load(chosen.input, allow_pickle=False)
    if read.ndim != 2 or 0 in read.shape:
        raise ValueError(f"{chosen.input} has shape {read.shape}; expected a matrix")
    return np.ascontiguousarray(read, dtype), str(chosen.input)


def least_seconds(function: Callable[[], object], budget: float = 0.5) -> float:
    """The least time of `function` over at least three runs and about `budget` seconds."""
    function()
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 3 or spent < budget:
        start = time.perf_counter()
        function()
        elapsed = time.perf_counter() - start
        best, spent, runs = min(best, elapsed), spent + elapsed, runs + 1
    return best


def rate(size: int, seconds: float) -> str:
    """Bytes and seconds as gigabytes a second."""
    return f"{size / seconds / 1e9:.1f} GB/s"


def speed(example: Example, inputs: Arrays, seconds: float) -> str:
    """Operations a second, of an example that counts them."""
    count = getattr(example, "operations", None)
    return f", {count(**inputs) / seconds / 1e9:.0f} GFLOP/s" if count else ""


def processor() -> str:
    """The name of the CPU, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or sys.platform


def positive(text: str) -> int:
    """A positive integer, for the command line."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
