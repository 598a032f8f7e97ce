"""Kernels on the CPU against NumPy, and the time of `import blocklang`, in one run.

    python -m benchmarks.cpu results.json

The kernels are those of `examples/`, on matrices of float32. NumPy computes the same with results
and intermediates written into arrays that are there already, which is the fastest that its
expressions go. The bound is memory: a copy of as many bytes as the kernel reads and writes.
Providers take turns, and each figure is the least of all turns, so that the load of the machine
does not decide. Imports are medians over fresh processes; the bound is Python's own start.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.record import Results, parser
from blocklang.runtime.cpu import thread_count
from examples import harness
from examples.layernorm import EPSILON, BackwardInTwoStages, LayerNorm
from examples.softmax import Softmax
from examples.vector_add import VectorAdd

TURNS = 5
PROCESSES = 15
IMPORTS = {"python": "pass", "numpy": "import numpy", "blocklang": "import blocklang"}


def add_by_numpy(x: Any, y: Any) -> Callable[[], object]:
    """z = x + y."""
    z = np.empty_like(x)
    return lambda: np.add(x, y, out=z)


def softmax_by_numpy(x: Any) -> Callable[[], object]:
    """Softmax of each row, in one array."""
    y = np.empty_like(x)

    def run() -> None:
        np.subtract(x, x.max(axis=1, keepdims=True), out=y)
        np.exp(y, out=y)
        np.divide(y, y.sum(axis=1, keepdims=True), out=y)

    return run


def layernorm_by_numpy(x: Any, w: Any, b: Any) -> Callable[[], object]:
    """LayerNorm of each row, in one array."""
    y = np.empty_like(x)

    def run() -> None:
        np.subtract(x, x.mean(axis=1, keepdims=True), out=y)
        variance = np.einsum("ij,ij->i", y, y) / x.shape[1]
        np.multiply(y, (1 / np.sqrt(variance + EPSILON))[:, None], out=y)
        np.multiply(y, w, out=y)
        np.add(y, b, out=y)

    return run


def backward_by_numpy(x: Any, dy: Any, w: Any, mean: Any, rstd: Any) -> Callable[[], object]:
    """LayerNorm backward, in three arrays."""
    normal, scaled, product = (np.empty_like(x) for _ in range(3))
    n = x.shape[1]

    def run() -> None:
        np.subtract(x, mean[:, None], out=normal)
        np.multiply(normal, rstd[:, None], out=normal)
        np.multiply(dy, w, out=scaled)
        along = np.einsum("ij,ij->i", normal, scaled) / n
        np.subtract(scaled, scaled.mean(axis=1, keepdims=True), out=scaled)
        np.einsum("ij,ij->j", dy, normal)
        dy.sum(axis=0)
        np.multiply(normal, along[:, None], out=product)
        np.subtract(scaled, product, out=scaled)
        np.multiply(scaled, rstd[:, None], out=scaled)

    return run


CASES: tuple[tuple[str, Any, Any, int, int], ...] = (
    ("vector add 1 M", VectorAdd(), add_by_numpy, 1, 1 << 20),
    ("vector add 16 M", VectorAdd(), add_by_numpy, 1, 1 << 24),
    ("softmax 4096x1000", Softmax(), softmax_by_numpy, 4096, 1000),
    ("softmax 65536x64", Softmax(), softmax_by_numpy, 65536, 64),
    ("softmax 256x50000", Softmax(), softmax_by_numpy, 256, 50000),
    ("layernorm 4096x1000", LayerNorm(), layernorm_by_numpy, 4096, 1000),
    ("layernorm backward 4096x1000", BackwardInTwoStages(), backward_by_numpy, 4096, 1000),
)


def measure(results: Results, case: str, example: Any, by_numpy: Any, rows: int, n: int) -> None:
    """All providers on one matrix."""
    x = np.random.default_rng(0).standard_normal((rows, n), np.float32)
    inputs = example.inputs(x)
    found: Mapping[str, Any] = example.results(**inputs)
    example.run(**inputs, **found)
    checked = harness.check(example, inputs, found)
    size = sum(array.nbytes for array in inputs.values())
    size += sum(found[name].nbytes for name in checked)
    launches: dict[str, Callable[[], object]] = {
        "copy": harness.Host().copy(size),
        "numpy": by_numpy(**inputs),
        "blocklang": lambda: example.run(**inputs, **found),
    }
    best = dict.fromkeys(launches, float("inf"))
    for _ in range(TURNS):
        for provider, launch in launches.items():
            best[provider] = min(best[provider], harness.least_seconds(launch, 0.3))
    for provider, seconds in best.items():
        values: dict[str, Any] = {"ms": 1e3 * seconds, "bytes": size, "rate": size / seconds}
        if provider != "copy":
            values["of_copy"] = best["copy"] / seconds
        if provider == "blocklang":
            values["threads"] = thread_count()
            values["error"] = max(error for error, _ in checked.values())
            values["correct"] = all(share <= 1 for _, share in checked.values())
        results.add("cpu", case, provider, **values)


def measure_imports(results: Results) -> None:
    """The start of a Python process that imports a package, and does nothing else."""
    times: dict[str, list[float]] = {provider: [] for provider in IMPORTS}
    for _ in range(PROCESSES):
        for provider, statement in IMPORTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times[provider].append(1e3 * (time.perf_counter() - start))
    for provider, taken in times.items():
        results.add("import", "fresh process", provider, ms=statistics.median(taken))


def main() -> None:
    """Measure, print, and write JSON."""
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    results = Results(arguments.commit)
    for case in CASES:
        measure(results, *case)
    measure_imports(results)
    results.write(arguments.output)


if __name__ == "__main__":
    main()
